// An HSM that a test controls, for what a real one cannot do on demand: keys that appear and disappear within one
// reading, a clock of its own, a delayed answer. It really encrypts, so that round trips are real.

import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";

import { KmsError } from "../../src/errors.js";
import type { Hsm, HsmState, CryptRequest, KekRecord, ProbeResult } from "../../src/hsm/port.js";
import type { Log } from "../../src/log.js";

export const SILENT: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

export class FakeHsm implements Hsm {
  records: KekRecord[] = [];
  /** The error of every call while it is set. */
  failure: KmsError | undefined;
  /** Keys with which every operation fails. */
  readonly broken = new Set<string>();
  /** Keys under which Encrypt reports success, but returns something that cannot be decrypted. */
  readonly scrambling = new Set<string>();
  /** The error of every call with a key. */
  readonly failures = new Map<string, KmsError>();
  readings = 0;
  calls = 0;
  /** Every call waits for this promise. */
  gate: Promise<void> = Promise.resolve();
  readonly #keys = new Map<string, Buffer>();

  async encrypt({ keyId, aad, data }: CryptRequest): Promise<Buffer> {
    await this.#begin(keyId);
    const iv = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", this.#key(keyId), iv, { authTagLength: 16 });
    cipher.setAAD(aad);
    const body = Buffer.concat([Buffer.of(12), iv, cipher.update(data), cipher.final(), cipher.getAuthTag()]);
    if (this.scrambling.has(keyId)) body.fill(0, 13);
    return body;
  }

  async decrypt({ keyId, aad, data }: CryptRequest): Promise<Buffer> {
    await this.#begin(keyId);
    const decipher = createDecipheriv("aes-256-gcm", this.#key(keyId), data.subarray(1, 13), {
      authTagLength: 16,
    });
    decipher.setAAD(aad);
    decipher.setAuthTag(data.subarray(-16));
    try {
      return Buffer.concat([decipher.update(data.subarray(13, -16)), decipher.final()]);
    } catch (error) {
      throw new KmsError("NOT_AUTHENTIC", "does not authenticate", error);
    }
  }

  listKeks(): Promise<readonly KekRecord[]> {
    this.readings++;
    return this.failure === undefined ? Promise.resolve([...this.records]) : Promise.reject(this.failure);
  }

  listKeksReloaded(): Promise<readonly KekRecord[]> {
    return this.listKeks();
  }

  async probe(keyId: string): Promise<readonly ProbeResult[]> {
    await this.#begin(keyId);
    return [{ mechanism: "aes-gcm", works: true, detail: "" }];
  }

  state(): HsmState {
    return this.failure === undefined ? { up: true } : { up: false, reason: this.failure };
  }

  async #begin(keyId: string): Promise<void> {
    this.calls++;
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
    const failure = this.failures.get(keyId);
    if (failure !== undefined) throw failure;
    if (this.broken.has(keyId)) throw new KmsError("KEY_UNSUITABLE", `${keyId} is broken`);
  }

  #key(keyId: string): Buffer {
    const key = this.#keys.get(keyId) ?? randomBytes(32);
    this.#keys.set(keyId, key);
    return key;
  }
}

// Proof that each generation works: a real round trip at first sight, which also chooses its mechanism, and a
// canary that is decrypted on every interval. A retired KEK that went missing or broke is found today, not
// at the next restart of an API server.
import { randomBytes, timingSafeEqual } from "node:crypto";
import { KmsError, type ErrorCode } from "../errors.js";
import { mechanismByName, type Mechanism, type MechanismChoice } from "../hsm/mechanisms.js";
import { PATIENT_CALLER, type Hsm } from "../hsm/port.js";
import type { ProbeResult } from "../hsm/wire.js";
import type { Log } from "../log.js";
import { associatedData } from "./envelope.js";
import type { Generation } from "./generations.js";

const CANARY_BYTES = 32;

/** Codes that say the HSM could not be asked, and nothing about the key. */
const AWAY: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "HSM_UNAVAILABLE",
  "SESSION_LOST",
  "DEADLINE",
  "OVERLOADED",
  "CANCELLED",
  "STOPPING",
  "PIN_REFUSED",
  "PIN_UNREADABLE",
  "TOKEN_NOT_FOUND",
  "MODULE_UNUSABLE",
]);

/** Whether an error means that the HSM is away, rather than that a key or a request is bad. */
export function isHsmAway(error: KmsError): boolean {
  return AWAY.has(error.code);
}

export interface Proof {
  /** What this generation encrypts with; undefined while it has not been proven, or cannot encrypt. */
  readonly mechanism?: Mechanism;
  /** Why the last proof failed; undefined when it did not. */
  readonly failure?: KmsError;
  readonly provenAt?: Date;
}

interface Canary {
  readonly mechanism: Mechanism;
  readonly plaintext: Buffer;
  readonly body: Buffer;
}

export class Prover {
  readonly #hsm: Hsm;
  readonly #choice: MechanismChoice | "auto";
  readonly #log: Log;
  readonly #proofs = new Map<string, Proof>();
  readonly #canaries = new Map<string, Canary>();

  constructor(hsm: Hsm, choice: MechanismChoice | "auto", log: Log) {
    this.#hsm = hsm;
    this.#choice = choice;
    this.#log = log;
  }

  proofOf(keyId: string): Proof {
    return this.#proofs.get(keyId) ?? {};
  }

  /** Whether nothing is known about a key yet, good or bad. */
  isUntried(keyId: string): boolean {
    return !this.#proofs.has(keyId);
  }

  /**
   * Proves the generations one after the other and forgets those that are gone.
   * @throws KmsError when the HSM is away; what was proven before stays proven
   */
  async prove(generations: readonly Generation[]): Promise<void> {
    const present = new Set(generations.map(({ record }) => record.keyId));
    for (const keyId of this.#proofs.keys()) if (!present.has(keyId)) this.#forget(keyId);
    for (const { record } of generations) await this.#proveOne(record.keyId);
  }

  async #proveOne(keyId: string): Promise<void> {
    const before = this.#proofs.get(keyId);
    try {
      const canary = this.#canaries.get(keyId) ?? (await this.#makeCanary(keyId));
      await this.#openCanary(keyId, canary);
      this.#proofs.set(keyId, { mechanism: canary.mechanism, provenAt: new Date() });
      if (before?.failure !== undefined) this.#log.info({ keyId }, "KEK works again");
    } catch (error) {
      const failure = KmsError.from(error);
      if (isHsmAway(failure)) throw failure;
      this.#proofs.set(keyId, { ...before, failure });
      if (before?.failure?.message !== failure.message)
        this.#log.error({ keyId, err: failure }, "KEK fails its self-test");
    }
  }

  async #makeCanary(keyId: string): Promise<Canary> {
    const results = await this.#hsm.probe(keyId, this.#choice);
    const mechanism = chosen(results);
    if (mechanism === undefined) throw unsuitable(keyId, results);
    const plaintext = randomBytes(CANARY_BYTES);
    const body = await this.#hsm.encrypt(
      { keyId, mechanism: mechanism.id, aad: associatedData(mechanism.id, keyId), data: plaintext },
      PATIENT_CALLER,
    );
    const canary = { mechanism, plaintext, body };
    this.#canaries.set(keyId, canary);
    this.#log.info({ keyId, mechanism: mechanism.name }, "KEK proven by a round trip");
    return canary;
  }

  async #openCanary(keyId: string, { mechanism, plaintext, body }: Canary): Promise<void> {
    const opened = await this.#hsm.decrypt(
      { keyId, mechanism: mechanism.id, aad: associatedData(mechanism.id, keyId), data: body },
      PATIENT_CALLER,
    );
    if (opened.length === plaintext.length && timingSafeEqual(opened, plaintext)) return;
    throw new KmsError("KEY_UNSUITABLE", `KEK ${keyId} decrypts its canary to something else`);
  }

  #forget(keyId: string): void {
    this.#proofs.delete(keyId);
    this.#canaries.delete(keyId);
  }
}

/** The first that works, in the order of preference in which they were tried. */
function chosen(results: readonly ProbeResult[]): Mechanism | undefined {
  const first = results.find((result) => result.works);
  return first === undefined ? undefined : mechanismByName(first.mechanism);
}

function unsuitable(keyId: string, results: readonly ProbeResult[]): KmsError {
  const tried = results.map(({ mechanism, detail }) => `${mechanism}: ${detail}`).join("; ");
  return new KmsError(
    "MECHANISM_UNSUPPORTED",
    `KEK ${keyId} performs none of the mechanisms wanted (${tried})`,
  );
}

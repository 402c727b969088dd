// Encrypts and decrypts under a KEK in the HSM: chooses the mechanism by the KEK's proof, adds the associated data, and puts
// the result into an envelope. A failure that points to trouble with the HSM triggers a background check.
import { KmsError } from "../errors.js";
import { meansHsmAway } from "../hsm/away.js";
import type { Mechanism } from "../hsm/mechanisms.js";
import { PATIENT_CALLER, type Caller, type Hsm } from "../hsm/port.js";
import {
  associatedData,
  CHECKED_FORMAT,
  encodeEnvelope,
  parseEnvelope,
  type DirectEnvelope,
  type FormatVersion,
} from "./envelope.js";
import { LOCAL_KEK_BYTES, type LocalKekWrapper } from "./local-kek.js";
import { saysBroken, type Prover } from "./prover.js";

/** What calls to the HSM depend on, and what a failure triggers. */
export interface KekCallsOptions {
  readonly hsm: Hsm;
  readonly prover: Prover;
  readonly onHsmTrouble: () => void;
}

/** Part of the associated data, so that a ciphertext made for one purpose never decrypts for another. */
const DEK_SEED = Buffer.alloc(0);
const LOCAL_KEK = Buffer.from("\0local-kek");

/** Encrypts and decrypts under a KEK in the HSM. */
export class KekCalls {
  readonly #options: KekCallsOptions;

  constructor(options: KekCallsOptions) {
    this.#options = options;
  }

  /** Returns an envelope. @throws KmsError that says why the KEK cannot be used */
  async encrypt(keyId: string, data: Uint8Array, caller: Caller, purpose = DEK_SEED): Promise<Buffer> {
    const { id } = this.#mechanismOf(keyId);
    const aad = aadOf(CHECKED_FORMAT, id, keyId, purpose);
    const request = { keyId, mechanism: id, check: "digest", aad, data } as const;
    return encodeEnvelope(CHECKED_FORMAT, id, await this.#guard(this.#options.hsm.encrypt(request, caller)));
  }

  /** Returns a plaintext that belongs to the caller. @throws KmsError such as NOT_AUTHENTIC */
  async decrypt(
    keyId: string,
    { version, mechanism, body: data }: DirectEnvelope,
    caller: Caller,
    purpose = DEK_SEED,
  ): Promise<Buffer> {
    const { id } = mechanism;
    const aad = aadOf(version, id, keyId, purpose);
    const check = version === CHECKED_FORMAT ? "digest" : "twice";
    try {
      return await this.#guard(this.#options.hsm.decrypt({ keyId, mechanism: id, check, aad, data }, caller));
    } catch (error) {
      throw this.#blame(keyId, mechanism, KmsError.from(error));
    }
  }

  /** Blames the ciphertext for a missing mechanism, unless the KEK's proof relies on that mechanism. */
  #blame(keyId: string, { id, name }: Mechanism, error: KmsError): KmsError {
    const { mechanism } = this.#options.prover.proofOf(keyId);
    if (error.code !== "MECHANISM_UNSUPPORTED" || mechanism === undefined || mechanism.id === id) {
      return error;
    }
    return new KmsError(
      "INPUT_INVALID",
      `the ciphertext names ${name}, which the token does not perform with KEK ${keyId}; it was changed, or made on a token that performs it`,
      error,
    );
  }

  /**
   * Wraps local KEKs as DEK seeds are encrypted. Many requests may wait for one call, so that none of them can cancel
   * it.
   */
  get localKeks(): LocalKekWrapper {
    return {
      wrap: (keyId, localKek) => this.encrypt(keyId, localKek, PATIENT_CALLER, LOCAL_KEK),
      unwrap: async (keyId, wrapped, caller = PATIENT_CALLER) => {
        const envelope = parseEnvelope(wrapped, LOCAL_KEK_BYTES);
        if (envelope.kind === "direct") return this.decrypt(keyId, envelope, caller, LOCAL_KEK);
        throw new KmsError("INPUT_INVALID", "the annotation holds no wrapped local KEK");
      },
    };
  }

  /** Refuses a KEK that fails its self-test: what it encrypts might never be decrypted. */
  #mechanismOf(keyId: string): Mechanism {
    const { mechanism, failure } = this.#options.prover.proofOf(keyId);
    if (mechanism !== undefined && (failure === undefined || !saysBroken(failure))) return mechanism;
    throw failure ?? new KmsError("HSM_UNAVAILABLE", `KEK ${keyId} has not passed its self-test yet`);
  }

  async #guard(call: Promise<Buffer>): Promise<Buffer> {
    try {
      return await call;
    } catch (thrown) {
      const error = KmsError.from(thrown);
      if (meansHsmAway(error) || error.code === "KEY_MISSING") this.#options.onHsmTrouble();
      throw error;
    }
  }
}

function aadOf(version: FormatVersion, mechanism: number, keyId: string, purpose: Buffer): Buffer {
  const aad = associatedData(version, mechanism, keyId);
  return purpose.length === 0 ? aad : Buffer.concat([aad, purpose]);
}

// Proves that each generation works. The first proof is a round trip that also chooses the mechanism. Every later proof
// decrypts a canary; for the KEK in use the canary is new each time, so that a token that encrypts to garbage is found
// early. Retired KEKs are proven too: one that is missing or broken is found now, not at the next restart of an API
// server.
import { randomBytes, timingSafeEqual } from "node:crypto";
import { KmsError } from "../errors.js";
import { meansHsmAway } from "../hsm/away.js";
import { mechanismByName, type Mechanism, type MechanismChoice } from "../hsm/mechanisms.js";
import { PROOF_CALLER, type Hsm, type CryptRequest, type ProbeResult } from "../hsm/port.js";
import type { Log } from "../log.js";
import { associatedData, CHECKED_FORMAT } from "./envelope.js";
import type { Generation } from "./generations.js";

const CANARY_BYTES = 32;
/**
 * Maximum number of unreachable KEKs while no KEK has answered, since each may take its whole timeout. One more means
 * that the HSM is away.
 */
const MAX_UNREACHED = 2;

/** The result of a KEK's last proof. */
export interface Proof {
  /** The mechanism that this generation encrypts with; undefined if it is unproven or cannot encrypt. */
  readonly mechanism?: Mechanism;
  /** Why the last proof failed; undefined if it succeeded. */
  readonly failure?: KmsError;
  readonly provenAt?: Date;
}

interface Canary {
  readonly mechanism: Mechanism;
  readonly plaintext: Buffer;
  readonly body: Buffer;
}

/**
 * Returns whether a failed proof means that the KEK itself is broken. A KEK that is not found does not count: the
 * keyring decides whether it was removed.
 */
export function saysBroken(failure: KmsError): boolean {
  return !meansHsmAway(failure) && failure.code !== "KEY_MISSING";
}

/** Proves the KEKs and holds the results. */
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

  /** Returns whether a KEK has not been tried yet. */
  isUntried(keyId: string): boolean {
    return !this.#proofs.has(keyId);
  }

  /**
   * Proves the generations one after the other, the KEK in use first, and forgets those that were removed. If only some
   * KEKs cannot be reached, they have failed; that says nothing about the HSM.
   * @throws KmsError if the HSM is away: the KEK in use, or every KEK, cannot be reached. Earlier proofs stay valid then.
   */
  async prove(generations: readonly Generation[], inUse: string | undefined): Promise<void> {
    const present = new Set(generations.map(({ record }) => record.keyId));
    for (const keyId of this.#proofs.keys()) if (!present.has(keyId)) this.#forget(keyId);
    const unreached: { readonly keyId: string; readonly failure: KmsError }[] = [];
    let reached = 0;
    for (const keyId of [...present].sort((one, other) => Number(other === inUse) - Number(one === inUse))) {
      const failure = await this.#proveOne(keyId, keyId === inUse);
      if (failure === undefined) reached++;
      else if (keyId === inUse || (reached === 0 && unreached.length >= MAX_UNREACHED)) throw failure;
      else unreached.push({ keyId, failure });
    }
    const [first] = unreached;
    if (first !== undefined && reached === 0) throw first.failure;
    for (const { keyId, failure } of unreached) this.#fail(keyId, failure);
  }

  /** Returns why the KEK could not be reached; undefined if it was reached, whether it works or not. */
  async #proveOne(keyId: string, isInUse: boolean): Promise<KmsError | undefined> {
    const before = this.#proofs.get(keyId);
    try {
      const canary = await this.#canaryOf(keyId, isInUse);
      await this.#openCanary(keyId, canary);
      this.#canaries.set(keyId, canary);
      this.#proofs.set(keyId, { mechanism: canary.mechanism, provenAt: new Date() });
      if (before?.failure !== undefined) this.#log.info({ keyId }, "KEK works again");
      return undefined;
    } catch (error) {
      const failure = KmsError.from(error);
      // A full queue says nothing about the key: the earlier proof stays valid.
      if (failure.code === "OVERLOADED") return undefined;
      if (meansHsmAway(failure)) return failure;
      this.#fail(keyId, failure);
      return undefined;
    }
  }

  #fail(keyId: string, failure: KmsError): void {
    const before = this.#proofs.get(keyId);
    this.#proofs.set(keyId, { ...before, failure });
    if (before?.failure?.message !== failure.message) {
      this.#log.error({ keyId, err: failure }, "KEK fails its self-test");
    }
  }

  async #canaryOf(keyId: string, isInUse: boolean): Promise<Canary> {
    const kept = this.#canaries.get(keyId);
    if (kept === undefined) return this.#firstCanary(keyId);
    return isInUse ? this.#makeCanary(keyId, kept.mechanism) : kept;
  }

  async #firstCanary(keyId: string): Promise<Canary> {
    const results = await this.#hsm.probe(keyId, this.#choice);
    const mechanism = chosen(results);
    if (mechanism === undefined) throw unsuitable(keyId, results);
    const canary = await this.#makeCanary(keyId, mechanism);
    // Kept even if it cannot be decrypted, so that the mechanisms are not tried again and again.
    this.#canaries.set(keyId, canary);
    this.#log.info({ keyId, mechanism: mechanism.name }, "KEK proven by a round trip");
    return canary;
  }

  async #makeCanary(keyId: string, mechanism: Mechanism): Promise<Canary> {
    const plaintext = randomBytes(CANARY_BYTES);
    const body = await this.#hsm.encrypt(requestOf(keyId, mechanism, plaintext), PROOF_CALLER);
    return { mechanism, plaintext, body };
  }

  async #openCanary(keyId: string, { mechanism, plaintext, body }: Canary): Promise<void> {
    const opened = await this.#hsm.decrypt(requestOf(keyId, mechanism, body), PROOF_CALLER);
    if (opened.length === plaintext.length && timingSafeEqual(opened, plaintext)) return;
    throw new KmsError("KEY_UNSUITABLE", `KEK ${keyId} decrypts its canary to something else`);
  }

  #forget(keyId: string): void {
    this.#proofs.delete(keyId);
    this.#canaries.delete(keyId);
  }
}

function requestOf(keyId: string, { id }: Mechanism, data: Buffer): CryptRequest {
  return { keyId, mechanism: id, check: "digest", aad: associatedData(CHECKED_FORMAT, id, keyId), data };
}

/** Returns the first mechanism that works, in the order of preference. */
function chosen(results: readonly ProbeResult[]): Mechanism | undefined {
  const first = results.find((result) => result.works);
  return first === undefined ? undefined : mechanismByName(first.mechanism);
}

function unsuitable(keyId: string, results: readonly ProbeResult[]): KmsError {
  const tried = results.map(({ mechanism, detail }) => `${mechanism}: ${detail}`).join("; ");
  return new KmsError("MECHANISM_UNSUPPORTED", `KEK ${keyId} performs none of the mechanisms (${tried})`);
}

// Proof that each generation works: a real round trip at first sight, which also chooses its mechanism, and on every
// interval a canary that is decrypted, for the KEK in use a new one each time: a token that answers with garbage is
// found before much has been encrypted by it. A retired KEK that went missing or broke is found today, not at the next
// restart of an API server.
import { randomBytes, timingSafeEqual } from "node:crypto";
import { KmsError } from "../errors.js";
import { meansHsmAway } from "../hsm/away.js";
import { mechanismByName, type Mechanism, type MechanismChoice } from "../hsm/mechanisms.js";
import { PATIENT_CALLER, type Hsm, type CryptRequest, type ProbeResult } from "../hsm/port.js";
import type { Log } from "../log.js";
import { associatedData, CHECKED_FORMAT } from "./envelope.js";
import type { Generation } from "./generations.js";

const CANARY_BYTES = 32;
/** KEKs that could not be asked before the HSM counts as away, none having been asked yet: each may take its time. */
const MOST_UNASKED = 2;

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

/**
 * Whether a failed proof says that the KEK does not do what it did. A KEK that is not found says nothing yet: the keyring
 * decides whether it is gone.
 */
export function saysBroken(failure: KmsError): boolean {
  return !meansHsmAway(failure) && failure.code !== "KEY_MISSING";
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
   * Proves the generations one after the other, the one that is in use first, and forgets those that are gone. One that
   * cannot be asked while others can has failed; that says nothing of the HSM.
   * @throws KmsError when the HSM is away: the KEK in use cannot be asked, or none can. What was proven stays proven
   */
  async prove(generations: readonly Generation[], inUse: string | undefined): Promise<void> {
    const present = new Set(generations.map(({ record }) => record.keyId));
    for (const keyId of this.#proofs.keys()) if (!present.has(keyId)) this.#forget(keyId);
    const unasked: { readonly keyId: string; readonly failure: KmsError }[] = [];
    let asked = 0;
    for (const keyId of [...present].sort((one, other) => Number(other === inUse) - Number(one === inUse))) {
      const failure = await this.#proveOne(keyId, keyId === inUse);
      if (failure === undefined) asked++;
      else if (keyId === inUse || (asked === 0 && unasked.length >= MOST_UNASKED)) throw failure;
      else unasked.push({ keyId, failure });
    }
    const [first] = unasked;
    if (first !== undefined && asked === 0) throw first.failure;
    for (const { keyId, failure } of unasked) this.#fail(keyId, failure);
  }

  /** Returns why it could not be asked; undefined when it was, whatever came of it. */
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
      // A queue that is full says nothing of the key: what is known of it stands.
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
    // Kept whether it opens or not, so that the trials of mechanisms are not made again and again.
    this.#canaries.set(keyId, canary);
    this.#log.info({ keyId, mechanism: mechanism.name }, "KEK proven by a round trip");
    return canary;
  }

  async #makeCanary(keyId: string, mechanism: Mechanism): Promise<Canary> {
    const plaintext = randomBytes(CANARY_BYTES);
    const body = await this.#hsm.encrypt(requestOf(keyId, mechanism, plaintext), PATIENT_CALLER);
    return { mechanism, plaintext, body };
  }

  async #openCanary(keyId: string, { mechanism, plaintext, body }: Canary): Promise<void> {
    const opened = await this.#hsm.decrypt(requestOf(keyId, mechanism, body), PATIENT_CALLER);
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

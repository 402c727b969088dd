// Decrypts stored objects with the HSM, without an API server. Each distinct DEK seed is decrypted once, in the same
// way as a Decrypt call of kube-apiserver, and a refusal is remembered like a seed. Evicted seeds are zeroed.
import { LRUCache } from "lru-cache";
import { KmsError } from "../errors.js";
import type { KmsProvider } from "../provider/kms.js";
import { meansHsmAway } from "../hsm/away.js";
import { cacheName } from "../provider/cache-name.js";
import { openData } from "./data-key.js";
import type { EncryptedObject } from "./stored-object.js";

/** A cluster has one seed per start of an API server and per rotation; each takes about 500 bytes here. */
const MAX_SEEDS = 50_000;

type Outcome = { readonly seed: Buffer } | { readonly refusal: KmsError };

export class Opener {
  readonly #provider: Pick<KmsProvider, "decrypt">;
  readonly #outcomes = new LRUCache<string, Outcome>({
    max: MAX_SEEDS,
    dispose: (outcome) => {
      if ("seed" in outcome) outcome.seed.fill(0);
    },
  });
  #last: { readonly object: EncryptedObject; readonly outcome: Outcome } | undefined;
  #decrypts = 0;

  constructor(provider: Pick<KmsProvider, "decrypt">) {
    this.#provider = provider;
  }

  /** The number of DEK seeds that the HSM was asked to decrypt. */
  get decrypts(): number {
    return this.#decrypts;
  }

  /**
   * Returns the plaintext, for the caller to zero.
   * @throws KmsError if the object cannot be decrypted; if meansHsmAway holds for it, it says nothing about the object
   */
  async open(etcdKey: string, object: EncryptedObject): Promise<Buffer> {
    const outcome = await this.#outcomeOf(object);
    if ("refusal" in outcome) throw outcome.refusal;
    return openData(outcome.seed, object.seedUse, object.encryptedData, etcdKey);
  }

  /** Zeroes every seed. */
  close(): void {
    this.#last = undefined;
    this.#outcomes.clear();
  }

  async #outcomeOf(object: EncryptedObject): Promise<Outcome> {
    const { keyId, encryptedSeed, annotations } = object;
    // Consecutive objects are mostly under the same seed; comparing seeds saves the digest.
    if (this.#last !== undefined && hasSameSeed(this.#last.object, object)) return this.#last.outcome;
    const name = cacheName(keyId, encryptedSeed, annotations);
    let outcome = this.#outcomes.get(name);
    if (outcome === undefined) {
      outcome = await this.#decrypt(object);
      this.#outcomes.set(name, outcome);
    }
    this.#last = { object, outcome };
    return outcome;
  }

  async #decrypt({ keyId, encryptedSeed, annotations }: EncryptedObject): Promise<Outcome> {
    this.#decrypts++;
    const context = { uid: "etcd", startedAt: performance.now(), cancelled: false };
    try {
      const seed = await this.#provider.decrypt({ ciphertext: encryptedSeed, keyId, annotations }, context);
      return { seed: Buffer.from(seed.buffer, seed.byteOffset, seed.length) };
    } catch (error) {
      const refusal = KmsError.from(error);
      if (meansHsmAway(refusal)) throw refusal;
      return { refusal };
    }
  }
}

function hasSameSeed(one: EncryptedObject, other: EncryptedObject): boolean {
  if (one.keyId !== other.keyId || !isEqual(one.encryptedSeed, other.encryptedSeed)) return false;
  const names = Object.keys(one.annotations);
  return (
    names.length === Object.keys(other.annotations).length &&
    names.every((name) => isEqual(one.annotations[name], other.annotations[name]))
  );
}

function isEqual(one: Uint8Array | undefined, other: Uint8Array | undefined): boolean {
  return one !== undefined && other !== undefined && Buffer.compare(one, other) === 0;
}

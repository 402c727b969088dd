// What stored objects show of KEKs while they are verified: which key_ids they name, and for each a DEK seed that a token has
// decrypted. With it, a KEK is proven that may only decrypt.
import { copyOf, type SeedOutcome, type SeedQuestion } from "../../etcd/seeds.js";
import { hasKeyId, mayBeNamed } from "../../hsm/key-id.js";
import type { KekRecord } from "../../hsm/port.js";

type Names = Pick<KekRecord, "keyId" | "aliases">;

/** Bounds the memory; with more key_ids, every KEK counts as needed. */
const MAX_KEY_IDS = 10_000;

export class StoredSeeds {
  readonly #named = new Set<string>();
  readonly #decrypted = new Map<string, SeedQuestion>();
  #isComplete = true;

  /** Notes a seed that an object has, and whether a token has decrypted it. */
  add(question: SeedQuestion, outcome: SeedOutcome): void {
    const { keyId } = question;
    if (this.#named.size >= MAX_KEY_IDS && !this.#named.has(keyId)) this.#isComplete = false;
    else this.#named.add(keyId);
    const isFirst = this.#named.has(keyId) && !this.#decrypted.has(keyId);
    if (isFirst && "seed" in outcome) this.#decrypted.set(keyId, copyOf(question));
  }

  /** Returns a seed under a KEK that a token has decrypted; undefined if there is none. */
  decryptedUnder({ keyId, aliases }: Names): SeedQuestion | undefined {
    for (const name of [keyId, ...aliases]) {
      const question = this.#decrypted.get(name);
      if (question !== undefined) return question;
    }
    return undefined;
  }

  /**
   * Returns whether an object may be under a KEK. It may be under another name: a KEK that no longer encrypts may have lost the
   * fingerprint in its key_id.
   */
  mayNeed(kek: Names): boolean {
    if (!this.#isComplete) return true;
    return [...this.#named].some((stored) => hasKeyId(kek, stored) || mayBeNamed(kek, stored));
  }
}

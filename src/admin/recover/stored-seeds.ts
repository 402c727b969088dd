// Collects, while stored objects are verified, the key_ids that they name and for each of them a DEK seed that a token has
// decrypted. Such a seed proves a KEK that may only decrypt.
import { copyOf, type SeedOutcome, type SeedQuestion } from "../../etcd/seeds.js";
import { hasKeyId, mayBeNamed, mayHaveHadKeyId } from "../../hsm/key-id.js";
import type { KekRecord } from "../../hsm/port.js";

type Names = Pick<KekRecord, "keyId" | "aliases">;

/** Bounds the memory; with more key_ids, every KEK counts as needed. */
const MAX_KEY_IDS = 10_000;

export class StoredSeeds {
  readonly #named = new Set<string>();
  readonly #decrypted = new Map<string, SeedQuestion>();
  #isComplete = true;

  /** Notes the seed of an object, and whether a token has decrypted it. */
  add(question: SeedQuestion, outcome: SeedOutcome): void {
    const { keyId } = question;
    if (this.#named.size >= MAX_KEY_IDS && !this.#named.has(keyId)) this.#isComplete = false;
    else this.#named.add(keyId);
    const isFirst = this.#named.has(keyId) && !this.#decrypted.has(keyId);
    if (isFirst && "seed" in outcome) this.#decrypted.set(keyId, copyOf(question));
  }

  /**
   * Returns a seed that a token has decrypted, if possible under a key_id that the KEK has, otherwise under one that it may have
   * had; undefined if there is none.
   */
  decryptedUnder(kek: Names): SeedQuestion | undefined {
    const stored = [...this.#decrypted.keys()];
    const name =
      stored.find((keyId) => hasKeyId(kek, keyId)) ?? stored.find((keyId) => mayBeNamed(kek, keyId));
    return name === undefined ? undefined : this.#decrypted.get(name);
  }

  /** Returns whether an object may be under a KEK, perhaps by an earlier key_id. */
  mayNeed({ keyId, aliases }: Names): boolean {
    if (!this.#isComplete) return true;
    return [...this.#named].some((stored) => mayHaveHadKeyId([keyId, ...aliases], stored));
  }
}

// The seeds and local KEKs in memory, for background work: lists what kube-apiserver sends for each, and has the HSM
// decrypt them in advance or again. Every request goes first. Returns no plaintext.
import { KmsError } from "../errors.js";
import type { Keyring } from "./keyring.js";
import type { DecryptQuestion } from "./kms.js";
import { LOCAL_KEK_ANNOTATION, type LocalKeks } from "./local-kek.js";
import { cacheName } from "./cache-name.js";
import type { CachedSeed, UnwrapCache } from "./unwrap-cache.js";

/** Where seeds and local KEKs are kept, and what decrypts them. */
export interface KnownSeedsParts {
  readonly cache: UnwrapCache;
  readonly localKeks: LocalKeks;
  readonly keyring: Pick<Keyring, "known">;
  /** Decrypts a seed; every request goes first. */
  readonly decrypt: (question: DecryptQuestion) => Promise<Buffer>;
}

const NO_CIPHERTEXT = Buffer.alloc(0);

/** Lists, loads and renews the seeds and local KEKs in memory. */
export class KnownSeeds {
  readonly #parts: KnownSeedsParts;

  constructor(parts: KnownSeedsParts) {
    this.#parts = parts;
  }

  /** Increases whenever a seed or local KEK comes into memory or leaves it. */
  get changes(): number {
    return this.#parts.cache.changes + this.#parts.localKeks.changes;
  }

  /** Number of seeds that were decrypted in advance and then requested. */
  get used(): number {
    return this.#parts.cache.usedAhead;
  }

  /**
   * Returns what kube-apiserver sends for everything in memory, the most recently used first. A local KEK opens many
   * seeds: it is listed by its annotation alone, with an empty ciphertext.
   */
  *questions(): Generator<DecryptQuestion> {
    for (const { keyId, wrapped } of this.#parts.localKeks.opened()) {
      yield { keyId, ciphertext: NO_CIPHERTEXT, annotations: { [LOCAL_KEK_ANNOTATION]: wrapped } };
    }
    for (const { question } of this.#parts.cache.seeds()) yield question;
  }

  /** Returns the cached seeds. */
  cached(): Generator<CachedSeed> {
    return this.#parts.cache.seeds();
  }

  /** Returns whether the KEK of a question is on the token, as last read. */
  canLoad({ keyId }: DecryptQuestion): boolean {
    return this.#parts.keyring.known(keyId) !== undefined;
  }

  /**
   * Has the HSM decrypt what `questions` once listed. Returns false if it is in memory already or there is no space.
   * @throws KmsError KEY_UNKNOWN if the token does not hold the KEK; others as `Provider.decrypt`
   */
  async loadAhead(question: DecryptQuestion): Promise<boolean> {
    const { cache, localKeks, keyring, decrypt } = this.#parts;
    const { keyId, ciphertext, annotations } = question;
    const generation = keyring.known(keyId);
    if (generation === undefined) throw new KmsError("KEY_UNKNOWN", `KEK ${keyId} is not on the token`);
    if (ciphertext.length === 0) {
      const wrapped = annotations[LOCAL_KEK_ANNOTATION];
      if (wrapped === undefined) throw new KmsError("INPUT_INVALID", "holds neither a seed nor a local KEK");
      return localKeks.unwrapAhead(keyId, wrapped);
    }
    const name = cacheName(keyId, ciphertext, annotations);
    return cache.loadAhead({ name, keyId: generation.record.keyId, question }, () => decrypt(question));
  }

  /** Has the HSM decrypt a cached seed again, which begins its lifetime again. @throws KmsError */
  renew({ name, question }: CachedSeed): Promise<void> {
    return this.#parts.cache.renew(name, () => this.#parts.decrypt(question));
  }
}

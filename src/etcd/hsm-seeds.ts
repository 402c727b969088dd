// Decrypts the DEK seeds of stored objects with the HSM, in the same way as a Decrypt call of kube-apiserver, several at a
// time. Keeps no seed (seeds.ts does).
import { createSecretKey } from "node:crypto";
import PQueue from "p-queue";
import { KmsError } from "../errors.js";
import type { KmsProvider } from "../provider/kms.js";
import { meansHsmAway } from "../hsm/away.js";
import { repeatedIfLate } from "./late-hsm.js";
import type { SeedOutcome, SeedQuestion } from "./seeds.js";

export class HsmSeeds {
  readonly #provider: Pick<KmsProvider, "decrypt">;
  readonly #queue: PQueue;
  #decrypts = 0;

  /** @param concurrency the number of calls at a time: at most the HSM's sessions, so that none waits in its timeout */
  constructor(provider: Pick<KmsProvider, "decrypt">, concurrency: number) {
    this.#provider = provider;
    this.#queue = new PQueue({ concurrency });
  }

  /** The number of DEK seeds that the HSM was asked to decrypt. */
  get decrypts(): number {
    return this.#decrypts;
  }

  /** Returns a seed or its refusal. @throws KmsError if the HSM is away or overloaded, which says nothing about the seed */
  load(question: SeedQuestion): Promise<SeedOutcome> {
    return this.#queue.add(() => {
      this.#decrypts++;
      return repeatedIfLate(() => this.#decrypt(question));
    });
  }

  /** Makes no further call. */
  stop(): void {
    this.#queue.clear();
  }

  async #decrypt({ keyId, encryptedSeed, annotations }: SeedQuestion): Promise<SeedOutcome> {
    const context = { uid: "etcd", startedAt: performance.now(), cancelled: false };
    try {
      const seed = await this.#provider.decrypt({ ciphertext: encryptedSeed, keyId, annotations }, context);
      try {
        return { seed: createSecretKey(seed) };
      } finally {
        seed.fill(0);
      }
    } catch (error) {
      const refusal = KmsError.from(error);
      if (meansHsmAway(refusal) || refusal.code === "OVERLOADED") throw refusal;
      return { refusal };
    }
  }
}

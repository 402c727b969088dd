// Which cluster owns each KEK, over all tokens of this process. Copies of one key value have the same key_id, whatever
// their labels and tokens: without this, a ciphertext of one cluster would decrypt in another.
import { KmsError } from "../../errors.js";
import type { KekRecord } from "../port.js";

/** A cluster's KEKs, and what is wrong with the others that carry its name. */
export interface OwnedKeks {
  readonly records: readonly KekRecord[];
  /** Undefined if nothing is. */
  readonly finding: string | undefined;
}

/** Gives each KEK to the first cluster that shows it. */
export class KekOwners {
  readonly #owners = new Map<string, string>();

  /** Returns those of a cluster's records whose KEK no other cluster owns; the cluster owns them from now on. */
  claim(cluster: string, shown: readonly KekRecord[]): OwnedKeks {
    const rivals = new Set<string>();
    const records = shown.filter((record) => {
      const rival = namesOf(record)
        .map((keyId) => this.#owners.get(keyId))
        .find((owner) => owner !== undefined && owner !== cluster);
      if (rival === undefined) for (const keyId of namesOf(record)) this.#owners.set(keyId, cluster);
      else rivals.add(`${record.keyId} is the KEK of cluster ${rival} too`);
      return rival === undefined;
    });
    const finding =
      rivals.size === 0
        ? undefined
        : `${[...rivals].join(", ")}; it is not used here, since each cluster needs a KEK of its own`;
    return { records, finding };
  }

  /** Returns whether another cluster than this one owns the KEK with a key_id. */
  isForeign(cluster: string, keyId: string): boolean {
    return (this.#owners.get(keyId) ?? cluster) !== cluster;
  }

  /** Forgets what a cluster owns. */
  release(cluster: string): void {
    for (const [keyId, owner] of this.#owners) if (owner === cluster) this.#owners.delete(keyId);
  }
}

/** Returns every key_id of a KEK. */
export function namesOf({ keyId, aliases }: KekRecord): readonly string[] {
  return [keyId, ...aliases];
}

/** Returns the error for a KEK that a cluster does not have. */
export function notOwned(keyId: string): KmsError {
  return new KmsError("KEY_MISSING", `the cluster has no KEK with key_id ${keyId}`);
}

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

interface Ownership {
  readonly cluster: string;
  /** The tokens whose last readings showed the KEK under the cluster's name. */
  readonly tokens: Set<unknown>;
}

/** A cluster whose tokens have not all been read since it was opened. */
interface Earlier {
  /** The key_ids that it used. */
  readonly used: ReadonlySet<string>;
  readonly tokens: number;
  /** The tokens that have been read since. */
  readonly read: Set<unknown>;
}

/**
 * Gives each KEK to the cluster that used it, or else to the first one that shows it. The cluster owns it for as long as a
 * token shows it under the cluster's name.
 */
export class KekOwners {
  readonly #owners = new Map<string, Ownership>();
  readonly #earlier = new Map<string, Earlier>();

  /**
   * Reserves the KEKs that a cluster used until each of its tokens has been read. Otherwise a restart could give such a
   * KEK to another cluster that has a copy.
   * @param used key_ids
   * @param tokens number of the cluster's tokens
   */
  reserve(cluster: string, used: Iterable<string>, tokens: number): void {
    const known = this.#earlier.get(cluster)?.used ?? [];
    this.#earlier.set(cluster, { used: new Set([...known, ...used]), tokens, read: new Set() });
  }

  /**
   * Returns those of a cluster's records whose KEK no other cluster owns; the cluster owns them from now on, and no longer
   * those that this token showed before. @param token on which the records are
   */
  claim(cluster: string, token: unknown, shown: readonly KekRecord[]): OwnedKeks {
    this.#disown(cluster, token, new Set(shown.flatMap(namesOf)));
    const rivals = new Set<string>();
    const records = shown.filter((record) => {
      const rival = this.#rivalOf(cluster, namesOf(record));
      if (rival === undefined) for (const keyId of namesOf(record)) this.#own(cluster, token, keyId);
      else rivals.add(`${record.keyId} is the KEK of cluster ${rival} too`);
      return rival === undefined;
    });
    this.#noteReading(cluster, token);
    const finding =
      rivals.size === 0
        ? undefined
        : `${[...rivals].join(", ")}; it is not used here, since each cluster needs a KEK of its own`;
    return { records, finding };
  }

  /** Returns whether another cluster than this one owns the KEK with a key_id. */
  isForeign(cluster: string, keyId: string): boolean {
    return (this.#owners.get(keyId)?.cluster ?? cluster) !== cluster;
  }

  /** Reserves what a cluster owns for the time until it is opened again. */
  release(cluster: string): void {
    const owned = [...this.#owners].filter(([, owner]) => owner.cluster === cluster).map(([keyId]) => keyId);
    for (const keyId of owned) this.#owners.delete(keyId);
    this.reserve(cluster, owned, Infinity);
  }

  /** Forgets all clusters but these. */
  keepOnly(clusters: ReadonlySet<string>): void {
    for (const cluster of this.#earlier.keys()) if (!clusters.has(cluster)) this.#earlier.delete(cluster);
  }

  #rivalOf(cluster: string, keyIds: readonly string[]): string | undefined {
    const owner = keyIds.map((keyId) => this.#owners.get(keyId)?.cluster).find((one) => one !== undefined);
    if (owner !== undefined) return owner === cluster ? undefined : owner;
    const users = [...this.#earlier].filter(([, { used }]) => keyIds.some((keyId) => used.has(keyId)));
    return users.some(([user]) => user === cluster) ? undefined : users[0]?.[0];
  }

  /** Ends the reservation when each token has been read: the cluster then owns what is still under its name. */
  #noteReading(cluster: string, token: unknown): void {
    const earlier = this.#earlier.get(cluster);
    earlier?.read.add(token);
    if (earlier !== undefined && earlier.read.size >= earlier.tokens) this.#earlier.delete(cluster);
  }

  #own(cluster: string, token: unknown, keyId: string): void {
    const owner = this.#owners.get(keyId) ?? { cluster, tokens: new Set() };
    this.#owners.set(keyId, owner);
    owner.tokens.add(token);
  }

  /** A KEK whose label was changed follows it: labels decide which KEK is whose, after a restart too. */
  #disown(cluster: string, token: unknown, shown: ReadonlySet<string>): void {
    for (const [keyId, owner] of this.#owners) {
      if (owner.cluster !== cluster || shown.has(keyId)) continue;
      owner.tokens.delete(token);
      if (owner.tokens.size === 0) this.#owners.delete(keyId);
    }
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

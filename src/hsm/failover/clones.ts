// Decides which keys of several tokens are clones of one KEK. A key with the label and CKA_ID of another token's KEK
// but a different fingerprint is not a clone: it is refused, and the KEK carries a remark while that key exists.
import type { Log } from "../../log.js";
import { hasKeyId, isSameKek, mayBeNamed } from "../key-id.js";
import { PUBLIC_KEY, type KekRecord } from "../port.js";
import { KekMemory, NO_KEK_MEMORY, type KnownKek } from "./kek-memory.js";

/** What one token showed at its last reading; undefined if it has not been read. */
export type Reading = readonly KekRecord[] | undefined;

/** Decides which keys of the configured tokens are clones, and remembers the value first seen under each name. */
export class Clones {
  readonly #tokens: readonly string[];
  readonly #log: Log;
  readonly #memory: KekMemory;
  readonly #reported = new Set<string>();

  /**
   * @param tokens names of the tokens, in order of preference
   * @param memory the key_id first seen for each label and CKA_ID; within one round, that of the most preferred token
   */
  constructor(tokens: readonly string[], log: Log, memory = new KekMemory(NO_KEK_MEMORY, tokens, log)) {
    this.#tokens = tokens;
    this.#log = log;
    this.#memory = memory;
  }

  /**
   * Returns the readings without false clones. Adds a remark to the KEK that a false clone imitates, and to a KEK that
   * is missing on a token.
   */
  genuine(readings: readonly Reading[]): Reading[] {
    const conflicts: { readonly keyId: string; readonly rank: number; readonly remark: string }[] = [];
    const kept = readings.map((records, rank) =>
      records?.filter((record) => {
        const other = this.#conflictWith(record, rank);
        if (other === undefined) return true;
        conflicts.push({ keyId: other.keyId, rank, remark: this.#refuse(record, rank, other) });
        return false;
      }),
    );
    return kept.map((records) =>
      records?.map((record) => {
        const own = conflicts.filter(({ keyId }) => keyId === record.keyId);
        const holders = ranksOf(kept, (reading) => reading.some((one) => isSameKek(one, record)));
        const lacking = ranksOf(kept, () => true).filter(
          (rank) => !holders.includes(rank) && !own.some((conflict) => conflict.rank === rank),
        );
        const remarks = [...record.remarks, ...own.map(({ remark }) => remark)];
        if (lacking.length > 0) {
          remarks.push(`only on ${this.#names(holders)}, not on ${this.#names(lacking)}; clone it there`);
        }
        return { ...record, remarks, heldBy: holders.map((rank) => this.#tokens[rank] ?? "") };
      }),
    );
  }

  #names(ranks: readonly number[]): string {
    return ranks.map((rank) => this.#tokens[rank]).join(" and ");
  }

  /** Returns the known key with the label and CKA_ID of this record, if its value is different. */
  #conflictWith(record: KekRecord, rank: number): KnownKek | undefined {
    // Without a CKA_ID, two keys with one label do not claim to be the same key. Somebody without the PIN may give a
    // public key any label and CKA_ID.
    if (record.ckaId === "" || record.unprotected.includes(PUBLIC_KEY)) return undefined;
    const token = this.#tokens[rank] ?? "";
    const known = this.#memory.under(record);
    if (known === undefined || known.token === token) {
      const { label, ckaId, keyId } = record;
      this.#memory.note({ label, ckaId, keyId, token });
      return undefined;
    }
    return hasKeyId(record, known.keyId) ? undefined : known;
  }

  #refuse(record: KekRecord, rank: number, known: KnownKek): string {
    const token = this.#tokens[rank] ?? "";
    // False if the HSMs compute fingerprints by different methods, or one of them computes none, as without CKA_ENCRYPT.
    const isComparable = !mayBeNamed(record, known.keyId);
    const line = `${record.keyId} ${known.keyId}`;
    if (!this.#reported.has(line)) {
      this.#reported.add(line);
      const { token: otherToken } = known;
      const { label, keyId } = record;
      this.#log.error(
        { label, token, keyId, otherToken, otherKeyId: known.keyId },
        isComparable
          ? "key refused: it has the label and CKA_ID of another token's KEK but a different value; clone the KEK again"
          : "key refused: it has the label and CKA_ID of another token's KEK, and no fingerprint that shows it to be a clone",
      );
    }
    const key = `the key there with this label and CKA_ID, ${record.keyId},`;
    return isComparable
      ? `not cloned to ${token}: ${key} has a different value and is refused`
      : `perhaps not cloned to ${token}: ${key} has no fingerprint to compare, and decrypts only once it has decrypted a canary`;
  }
}

function ranksOf(readings: readonly Reading[], wanted: (reading: readonly KekRecord[]) => boolean): number[] {
  return readings.flatMap((reading, rank) => (reading !== undefined && wanted(reading) ? [rank] : []));
}

// Which key is the KEK where several tokens hold clones of it. A key that carries another token's label and CKA_ID
// but has another fingerprint is no clone: it is refused, and the KEK says so for as long as the other is there.
import type { Log } from "../log.js";
import type { KekRecord } from "./wire.js";

/** What one token showed at the last reading; undefined while it cannot be read. */
export type Reading = readonly KekRecord[] | undefined;

interface Known {
  readonly keyId: string;
  readonly rank: number;
}

export class Clones {
  readonly #tokens: readonly string[];
  readonly #log: Log;
  /** The key_id that a label and CKA_ID stand for: the first seen, the most preferred token's of one reading. */
  readonly #known = new Map<string, Known>();
  readonly #reported = new Set<string>();

  /** @param tokens names of the tokens for messages, in order of preference */
  constructor(tokens: readonly string[], log: Log) {
    this.#tokens = tokens;
    this.#log = log;
  }

  /** The readings without the keys that are no clones; the ones whose name those carry have a remark on each. */
  genuine(readings: readonly Reading[]): Reading[] {
    const conflicts = new Map<string, string[]>();
    const kept = readings.map((records, rank) =>
      records?.filter((record) => {
        const other = this.#otherThan(record, rank);
        if (other === undefined) return true;
        const remark = this.#refuse(record, rank, other);
        conflicts.set(other.keyId, [...(conflicts.get(other.keyId) ?? []), remark]);
        return false;
      }),
    );
    return kept.map((records) =>
      records?.map((record) => ({
        ...record,
        remarks: [...record.remarks, ...(conflicts.get(record.keyId) ?? [])],
      })),
    );
  }

  /** The key that a record's name stands for already, if that is another. */
  #otherThan(record: KekRecord, rank: number): Known | undefined {
    // Without a CKA_ID nothing says that two keys claim to be one.
    if (record.ckaId === "") return undefined;
    const name = `${record.label} ${record.ckaId}`;
    const known = this.#known.get(name);
    if (known === undefined || known.rank === rank) {
      this.#known.set(name, { keyId: record.keyId, rank });
      return undefined;
    }
    const same = known.keyId === record.keyId || record.aliases.includes(known.keyId);
    return same ? undefined : known;
  }

  #refuse(record: KekRecord, rank: number, known: Known): string {
    const token = this.#tokens[rank] ?? "";
    const line = `${record.keyId} ${known.keyId}`;
    if (!this.#reported.has(line)) {
      this.#reported.add(line);
      const otherToken = this.#tokens[known.rank];
      const { label, keyId } = record;
      this.#log.error(
        { label, token, keyId, otherToken, otherKeyId: known.keyId },
        "key refused: it has the label and CKA_ID of another token's KEK but is another key; clone the KEK again",
      );
    }
    return `not cloned to ${token}: the key there with this label and CKA_ID is another, ${record.keyId}, and is refused`;
  }
}

// Remembers key_ids that requests named and that a complete reading did not find on the token. Bounded, since anyone
// who may open the socket can send any number of them.

/** Beyond this number, the key_id requested longest ago is forgotten. */
const MOST_KEPT = 1_000;

interface RequestedKeyId {
  /** By a monotonic clock, in ms. */
  readonly since: number;
  /** Whether a reading that began later ended without this key_id. */
  absent: boolean;
}

/** Remembers which requested key_ids the token does not hold. */
export class AbsentKeyIds {
  readonly #asked = new Map<string, RequestedKeyId>();

  /** Records a request for a key_id that the keyring as last read does not hold. */
  ask(keyId: string, now: number): void {
    const entry = this.#asked.get(keyId) ?? { since: now, absent: false };
    this.#asked.delete(keyId);
    this.#asked.set(keyId, entry);
    if (this.#asked.size <= MOST_KEPT) return;
    const [oldest] = this.#asked.keys();
    if (oldest !== undefined) this.#asked.delete(oldest);
  }

  /** Updates the absent key_ids after a complete reading. @param beganAt by the same clock, in ms */
  read(beganAt: number, holds: (keyId: string) => boolean): void {
    for (const [keyId, asked] of this.#asked) {
      if (holds(keyId)) this.#asked.delete(keyId);
      else if (asked.since <= beganAt) asked.absent = true;
    }
  }

  /** Returns whether the last complete reading since the request did not find the key_id. */
  has(keyId: string): boolean {
    return this.#asked.get(keyId)?.absent === true;
  }
}

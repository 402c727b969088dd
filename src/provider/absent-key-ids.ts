// key_ids that requests have asked for and the token does not hold, each with the reading that showed it. Bounded:
// anyone who may open the socket can send any number of them.

/** Beyond this number, the key_id that was asked for longest ago is forgotten. */
const MOST_KEPT = 1_000;

interface Asked {
  /** By a monotonic clock, in ms. */
  readonly since: number;
  /** Whether a reading that began later has ended without it. */
  absent: boolean;
}

export class AbsentKeyIds {
  readonly #asked = new Map<string, Asked>();

  /** Notes that a key_id is asked for, which the keyring as last read does not hold. */
  ask(keyId: string, now: number): void {
    const entry = this.#asked.get(keyId) ?? { since: now, absent: false };
    this.#asked.delete(keyId);
    this.#asked.set(keyId, entry);
    if (this.#asked.size <= MOST_KEPT) return;
    const [oldest] = this.#asked.keys();
    if (oldest !== undefined) this.#asked.delete(oldest);
  }

  /** Takes a complete reading into account. @param beganAt by the same clock */
  read(beganAt: number, holds: (keyId: string) => boolean): void {
    for (const [keyId, asked] of this.#asked) {
      if (holds(keyId)) this.#asked.delete(keyId);
      else if (asked.since <= beganAt) asked.absent = true;
    }
  }

  /** Whether the last complete reading that says anything about it did not find it. */
  has(keyId: string): boolean {
    return this.#asked.get(keyId)?.absent === true;
  }
}

// The generations of the KEK that one lane has found, by their key_ids.
import { namesValue, onlyMayBeNamed } from "../hsm/key-id.js";
import { PUBLIC_KEY } from "../hsm/port.js";
import type { Kek } from "./kek.js";

/** Returns every key_id of a generation. */
export function namesOf({ record }: Kek): readonly string[] {
  return [record.keyId, ...record.aliases];
}

/** Holds generations and finds them by any of their key_ids. */
export class KnownKeks {
  #all: readonly Kek[] = [];
  #byKeyId = new Map<string, Kek>();

  /** All generations, including copies of one key under several labels. */
  get all(): readonly Kek[] {
    return this.#all;
  }

  /** The generations that are used, by each of their key_ids. */
  get named(): ReadonlySet<Kek> {
    return new Set(this.#byKeyId.values());
  }

  get(keyId: string): Kek | undefined {
    return this.#byKeyId.get(keyId);
  }

  /** Returns the generation that may have had a key_id earlier, as `onlyMayBeNamed` decides. */
  formerlyCalled(keyId: string): Kek | undefined {
    return onlyMayBeNamed([...this.named], keyId);
  }

  /** Replaces all generations by those of a new reading. */
  replace(keks: readonly Kek[]): void {
    this.#all = keks;
    this.#byKeyId = new Map();
    for (const kek of keks) this.#name(kek);
  }

  /** Adds a generation, or replaces it by one with other handles. */
  put(kek: Kek): void {
    const isSame = ({ record }: Kek): boolean =>
      record.keyId === kek.record.keyId && record.label === kek.record.label;
    this.#all = [...this.#all.filter((known) => !isSame(known)), kek];
    this.#name(kek);
  }

  delete(keyId: string): void {
    this.#byKeyId.delete(keyId);
  }

  /**
   * Makes a generation known by its key_ids. A key that somebody without the PIN has made may have the key_id of a KEK
   * if the HSM computes no fingerprint; it is never used, and no unprotected key is used instead of a protected one.
   */
  #name(kek: Kek): void {
    const { keyId, unprotected } = kek.record;
    if (unprotected.includes(PUBLIC_KEY) && !namesValue(keyId)) return;
    for (const name of namesOf(kek)) {
      const known = this.#byKeyId.get(name);
      const isWorse = unprotected.length > 0 && known?.record.unprotected.length === 0;
      if (!isWorse) this.#byKeyId.set(name, kek);
    }
  }
}

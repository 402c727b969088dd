// The set of keys of which a later revision has been read, as 96 bits of a salted digest each, since keys themselves
// would need several times the memory. Two keys among 25 million collide with a probability below 10^-14, and the salt
// prevents whoever chooses the keys from causing one.
import { hash, randomBytes } from "node:crypto";
import { KmsError } from "../../errors.js";

/** Far more keys than an etcd of 8 GB, the recommended maximum, can hold. */
const MAX_KEYS = 25_000_000;
const SALT_BYTES = 16;
const WORDS = 3;
const FIRST_SLOTS = 1 << 12;
/** Load above which the probes of an open-addressed table become long. */
const MAX_LOAD = 0.75;

export class SeenKeys {
  /** Open addressing; a slot of zeros is free. At 12 bytes a slot, a key takes 16 to 32 bytes, and 48 while the table grows. */
  #slots = new Uint32Array(FIRST_SLOTS * WORDS);
  #mask = FIRST_SLOTS - 1;
  #size = 0;
  #salted = Buffer.concat([randomBytes(SALT_BYTES), Buffer.alloc(1024)]);
  readonly #max: number;

  constructor(max = MAX_KEYS) {
    this.#max = max;
  }

  /** Adds a key. Returns whether it is new. @throws KmsError INPUT_INVALID for more keys than any etcd holds */
  add(key: Buffer): boolean {
    const digest = this.#digest(key);
    const [first, second, third] = [wordOf(digest, 0), wordOf(digest, 4), wordOf(digest, 8)];
    if (!this.#put(first, second, third)) return false;
    if (++this.#size > this.#max) {
      throw new KmsError(
        "INPUT_INVALID",
        `--snapshot: holds over ${this.#max} keys; restore it with etcdutl and read that etcd with --endpoints`,
      );
    }
    if (this.#size > (this.#mask + 1) * MAX_LOAD) this.#grow();
    return true;
  }

  #put(first: number, second: number, third: number): boolean {
    const slots = this.#slots;
    for (let slot = first & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const at = slot * WORDS;
      if (slots[at] === 0 && slots[at + 1] === 0 && slots[at + 2] === 0) {
        slots[at] = first;
        slots[at + 1] = second;
        slots[at + 2] = third;
        return true;
      }
      if (slots[at] === first && slots[at + 1] === second && slots[at + 2] === third) return false;
    }
  }

  #grow(): void {
    const before = this.#slots;
    this.#slots = new Uint32Array(before.length * 2);
    this.#mask = this.#mask * 2 + 1;
    for (let at = 0; at < before.length; at += WORDS) {
      const [first = 0, second = 0, third = 0] = [before[at], before[at + 1], before[at + 2]];
      if (first !== 0 || second !== 0 || third !== 0) this.#put(first, second, third);
    }
  }

  /** Returns the digest as a string of one character per byte, which costs less than a buffer. */
  #digest(key: Buffer): string {
    const length = SALT_BYTES + key.length;
    if (length > this.#salted.length) {
      this.#salted = Buffer.concat([this.#salted.subarray(0, SALT_BYTES), Buffer.alloc(2 * key.length)]);
    }
    key.copy(this.#salted, SALT_BYTES);
    return hash("sha256", this.#salted.subarray(0, length), "binary");
  }
}

function wordOf(digest: string, at: number): number {
  const high = (digest.charCodeAt(at) << 8) | digest.charCodeAt(at + 1);
  const low = (digest.charCodeAt(at + 2) << 8) | digest.charCodeAt(at + 3);
  return ((high << 16) | low) >>> 0;
}

// Has the tokens of a failover set prove that they hold a KEK which they show under another key_id, by a fingerprint
// that cannot be compared: only the KEK decrypts the canary, which a token that shows its key_id has encrypted.
import { hasKeyId, isSameKek, nameCkaId } from "../key-id.js";
import type { CryptRequest, KekRecord } from "../port.js";
import type { KekMemory } from "./kek-memory.js";
import type { Member } from "./member.js";

/** Proves clones by canaries. */
export class CloneProofs {
  readonly #members: readonly Member[];
  readonly #memory: KekMemory;

  constructor(members: readonly Member[], memory: KekMemory) {
    this.#members = members;
    this.#memory = memory;
  }

  /**
   * Makes the canary of a KEK that has just been proven, if it has none, and has the tokens decrypt it. Never throws.
   */
  async proveAgain({ keyId, mechanism }: CryptRequest): Promise<void> {
    for (const member of this.#members) await member.addCanary(keyId, mechanism, this.#memory);
    await Promise.all(this.#members.map((member) => member.tryKek(keyId, this.#memory)));
  }

  /** Has tokens open the canaries of KEKs that none shows, such as that of a token that is away since the start. */
  async proveUnshown(): Promise<void> {
    const all = this.#members.flatMap(({ reading }) => reading ?? []);
    if (this.#members.every(({ reading }) => reading !== undefined)) this.#prune(all);
    const unshown = this.#memory.provable.filter((keyId) => !all.some((record) => hasKeyId(record, keyId)));
    const tries = unshown.flatMap((keyId) =>
      this.#members.map((member) => member.tryKek(keyId, this.#memory)),
    );
    await Promise.all(tries);
  }

  /** Forgets the KEKs that are on no token any more. @param all the keys of all tokens */
  #prune(all: readonly KekRecord[]): void {
    const held = new Set(all.map(({ ckaId }) => nameCkaId(Buffer.from(ckaId, "hex"))));
    this.#memory.prune(
      (keyId) => all.some((record) => hasKeyId(record, keyId)),
      (keyId) => held.has(keyId.split(".")[0] ?? ""),
    );
  }

  /**
   * Returns the KEKs that only clones under other key_ids hold, by the key_id under which they decrypted the canary.
   * @param shown the KEKs that tokens show
   */
  provenClones(shown: readonly KekRecord[]): KekRecord[] {
    return this.#memory.provable.flatMap((keyId) => {
      const member = this.#members.find((one) => one.isProven(keyId));
      const record = member?.similarTo(keyId);
      if (member === undefined || record === undefined) return [];
      if (shown.some((other) => hasKeyId(other, keyId) || isSameKek(other, record))) return [];
      return [{ ...record, keyId, aliases: [], heldBy: [member.name] }];
    });
  }
}

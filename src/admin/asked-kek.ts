// The KEK that nodes and usage reports are asked about before it may be destroyed. They may name it by an earlier key_id, since
// its HSM may have computed another fingerprint. Only another KEK beside it shows that a key_id never was its own.
import { mayBeNamed, mayHaveHadKeyId, namesValue } from "../hsm/key-id.js";
import type { KekRecord } from "../hsm/port.js";
import type { KeyringView, ViewedKey } from "./keyring-view.js";

export interface AskedKek {
  /** Its key_ids. A node may have answered under an earlier one. */
  readonly keyIds: readonly string[];
  /** Key_ids of other KEKs, which it cannot have had earlier. */
  readonly others: readonly string[];
  /** Hexadecimal. */
  readonly ckaId: string;
}

/**
 * Returns a KEK with the key_ids that it cannot have had earlier: those of usable KEKs that are on every token that holds it,
 * and go on decrypting what is stored under their key_ids. A key_id without a fingerprint may be an earlier one of any key.
 */
export function askedKek(key: ViewedKey, { keys }: KeyringView): AskedKek {
  const keyIds = namesOf(key.record);
  const others = keys
    .filter((other) => other.state !== "refused" && isBeside(other, key))
    .flatMap((other) => namesOf(other.record))
    .filter((name) => namesValue(name) && !keyIds.includes(name));
  return { keyIds, others, ckaId: key.record.ckaId };
}

/** Returns whether a key_id that a node or a report contains names the KEK, perhaps as an earlier one. */
export function mayBe({ keyIds, others }: AskedKek, keyId: string): boolean {
  return mayHaveHadKeyId(keyIds, keyId, others);
}

/** Returns whether a KEK may be the active one of another token, whose HSM computes another fingerprint. */
export function mayBeActive(key: ViewedKey, { keys }: KeyringView): boolean {
  const active = keys.find(({ state }) => state === "active");
  return active !== undefined && mayBeNamed(active.record, key.record.keyId) && !isBeside(active, key);
}

/** Returns whether a KEK is on every token that holds another one, so that the two are different keys. */
function isBeside(kek: ViewedKey, other: ViewedKey): boolean {
  return other.holders.every((token) => kek.holders.includes(token));
}

function namesOf({ keyId, aliases }: KekRecord): string[] {
  return [keyId, ...aliases];
}

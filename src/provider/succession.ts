// Checks at the start whether a KEK may follow the one that this node published before it was stopped, if that one is
// no longer on the token. Pure.
import { KmsError } from "../errors.js";
import type { Generation } from "./generations.js";
import type { Published } from "./key-memory.js";

/**
 * Requires that `due` may succeed the KEK published before. A KEK with an earlier activation has been superseded. A
 * different KEK with the same activation comes from another token or a failed clone, and the other nodes could not
 * decrypt what it encrypts.
 * @param unread why KEKs may be missing from the keyring, so that the one published before may still exist
 * @throws KmsError KEY_MISSING for an earlier KEK, KEY_UNSUITABLE for a different one, HSM_UNAVAILABLE if `unread`
 */
export function refuseSuccession(before: Published, due: Generation, unread: KmsError | undefined): void {
  const refusal = refusalOf(before, due);
  if (refusal === undefined) return;
  if (unread === undefined) throw refusal;
  throw new KmsError(
    "HSM_UNAVAILABLE",
    `the active KEK ${before.keyId} is on no token that could be read; ${unread.message}`,
    refusal,
  );
}

function refusalOf(before: Published, due: Generation): KmsError | undefined {
  if (before.activation === null || before.activation < due.activation) return undefined;
  if (before.activation > due.activation) {
    return new KmsError(
      "KEY_MISSING",
      `the active KEK ${before.keyId} is gone from the token, and "${due.record.label}" is an earlier one; restore it, ` +
        "or rotate forward to a new one (stateDir records which KEK was active)",
    );
  }
  return new KmsError(
    "KEY_UNSUITABLE",
    `"${due.record.label}" has key_id ${due.record.keyId} here, but this node has published ${before.keyId} for it; ` +
      "is this another token, or a failed clone? (stateDir records the earlier key_id)",
  );
}

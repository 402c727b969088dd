// Checks at the start whether a KEK may follow the one that this node published before it was stopped, if that one is
// no longer on the token. Pure.
import { KmsError } from "../errors.js";
import type { Generation } from "./generations.js";
import type { Published } from "./key-memory.js";

/**
 * Requires that `due` may succeed the KEK published before. A KEK with an earlier activation has been superseded. A
 * different KEK with the same activation comes from another token or a failed clone, and the other nodes could not
 * decrypt what it encrypts.
 * @throws KmsError KEY_MISSING for an earlier KEK, KEY_UNSUITABLE for a different one
 */
export function refuseSuccession(before: Published, due: Generation): void {
  if (before.activation === null || before.activation < due.activation) return;
  if (before.activation > due.activation) {
    throw new KmsError(
      "KEY_MISSING",
      `the active KEK ${before.keyId} is gone from the token, and "${due.record.label}" is an earlier one; restore it, ` +
        "or rotate forward to a new one (stateDir records which KEK was active)",
    );
  }
  throw new KmsError(
    "KEY_UNSUITABLE",
    `"${due.record.label}" has key_id ${due.record.keyId} here, but this node has published ${before.keyId} for it; ` +
      "is this another token, or a failed clone? (stateDir records the earlier key_id)",
  );
}

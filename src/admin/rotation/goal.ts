// Decides what a rotation run is for: whether a KEK has to be made, or an earlier rotation to be continued, and which KEKs
// are destroyed in the end.
import { KmsError } from "../../errors.js";
import { findReferenced, type KeyReference } from "../key-reference.js";
import type { Facts, Goal, Retirement } from "./position.js";

export interface Wish {
  /** The KEK to replace, if the operator names one. */
  readonly replace: KeyReference | undefined;
  /** Without that, the active KEK is replaced if it has been active for this long, in ms. */
  readonly maxAgeMs: number;
  /** Undefined if nothing is destroyed. */
  readonly retirement: Omit<Retirement, "only"> | undefined;
}

/** Returns the goal of a run. @throws KmsError CONFIG_INVALID if the KEK to replace is not one that can be replaced */
export function goalOf({ keks, now }: Facts, { replace, maxAgeMs, retirement }: Wish): Goal {
  if (replace === undefined) {
    const active = keks.find(({ state }) => state === "active");
    const isDue = active !== undefined && now - active.activation >= maxAgeMs;
    return {
      replace: isDue ? active.keyIds : undefined,
      retirement: retirement && { ...retirement, only: undefined },
    };
  }
  const named = findReferenced("--replace", replace, keks);
  if (named?.state === "standby") {
    throw new KmsError(
      "CONFIG_INVALID",
      `--replace: ${named.keyIds[0]} is standby; cancel it with 'kms-pkcs11 rotation abort'`,
    );
  }
  const keyIds = named?.keyIds ?? [replace.text];
  return { replace: keyIds, retirement: retirement && { ...retirement, only: keyIds } };
}

// Public keys (CKA_PRIVATE is false) among the keys that carry the KEK's name. PKCS#11 2.40 (section 4.4) lets a
// session that is not logged in make public objects, so anybody who reaches the token may have made them: they must not
// affect any protected KEK.
import { TokenFault } from "./ckr.js";
import { isPublic, type FoundKey } from "./found-key.js";

/** Maximum number of public keys that are named, since each takes several calls; more than any schedule has. */
const MAX_PUBLIC_KEYS = 100;

/** The keys that are considered, and the faults of those that are omitted. */
export interface LimitedKeys {
  readonly kept: readonly FoundKey[];
  /** One fault for each omitted key. */
  readonly faults: readonly TokenFault[];
}

/** Returns all protected keys, and a limited number of public ones. */
export function limitPublicKeys(keys: readonly FoundKey[], objectName: string): LimitedKeys {
  const publicKeys = keys.filter(isPublic);
  const surplus = publicKeys.slice(MAX_PUBLIC_KEYS);
  if (surplus.length === 0) return { kept: keys, faults: [] };
  const left = new Set(surplus);
  const fault = new TokenFault(
    `of the ${publicKeys.length} public keys named "${objectName}" only ${MAX_PUBLIC_KEYS} are read; ` +
      "anybody may make such keys without a PIN, so remove those that are not yours",
    { fault: "setup", code: "KEY_AMBIGUOUS" },
  );
  return { kept: keys.filter((key) => !left.has(key)), faults: surplus.map(() => fault) };
}

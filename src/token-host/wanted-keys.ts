// Which keys on a token a lane looks for: those whose labels carry the name of a KEK. Several clusters may share a token,
// each with a KEK of its own name.
import type { KekNames } from "../hsm/wire-calls.js";
import { TokenFault } from "./ckr.js";
import type { FoundKey } from "./found-key.js";

/** Maximum number of keys of all KEKs: more than their schedules have, and their records fit into one frame of the wire. */
const MAX_KEYS = 1_000;

/** The keys that a reading looks for. */
export interface WantedKeys {
  /** The KEKs' names, each with the CKA_ID (hex) of its only key, if the URI names one. */
  readonly names: ReadonlyMap<string, string | undefined>;
  readonly loginRequired: boolean;
}

/** Returns what a reading looks for. */
export function wantedKeys({ objectName, ckaId, others = [] }: KekNames, loginRequired: boolean): WantedKeys {
  const all = [{ objectName, ckaId }, ...others];
  return { names: new Map(all.map((kek) => [kek.objectName, kek.ckaId])), loginRequired };
}

/** Throws a TokenFault if there are too many keys. */
export function checkCount(keys: number, { names }: WantedKeys): void {
  if (keys <= MAX_KEYS) return;
  const [objectName] = names.keys();
  const named = names.size === 1 ? `named "${objectName}"` : `of ${names.size} KEKs`;
  throw new TokenFault(
    `the token holds ${keys} keys ${named}, more than the ${MAX_KEYS} that are read; destroy those that are not needed`,
    { fault: "setup", code: "KEY_AMBIGUOUS" },
  );
}

/** Returns the KEK's name in a CKA_LABEL, which is the name alone, or the name, "@" and an instant. */
export function nameIn(label: string): string {
  const [name = ""] = label.split("@", 1);
  return name;
}

/** Returns whether a CKA_LABEL belongs to one of the KEKs. */
export function isOurs(label: string, { names }: WantedKeys): boolean {
  return names.has(nameIn(label));
}

/** Returns whether the URI names the CKA_ID of a generation's first key; the second may have another. */
export function isWanted([first]: readonly FoundKey[], { names }: WantedKeys): boolean {
  const ckaId = first && names.get(nameIn(first.label));
  return ckaId === undefined || ckaId === first?.ckaId.toString("hex");
}

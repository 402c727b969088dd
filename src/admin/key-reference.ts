// Parses how an operator names a KEK on a command line: its key_id, the beginning of a key_id that matches a single
// KEK, a CKA_ID, or the only KEK in a state. Any other text is a usage error before any token or node is asked.
import { KmsError } from "../errors.js";
import { isKeyId, mayBeginKeyId, nameCkaId } from "../hsm/key-id.js";
import { truncate } from "../untrusted-text.js";

const STATES = ["standby", "active", "retired"] as const;
/** A long CKA_ID; the key_id holds only its digest. */
const LONG_CKA_ID = /^(?:[0-9a-f]{2}){17,}$/;
const MAX_SHOWN = 100;

export type KeyReference =
  | { readonly kind: "key_id"; readonly text: string }
  | { readonly kind: "state"; readonly text: string; readonly state: (typeof STATES)[number] }
  /** The beginning of a key_id, or a CKA_ID in hexadecimal. */
  | { readonly kind: "part"; readonly text: string };

export interface NamedKey {
  /** The key_id and its aliases. */
  readonly keyIds: readonly string[];
  readonly state: string;
}

/**
 * Parses a reference; does not check that such a KEK exists.
 * @param what names the option or argument in the message
 * @throws KmsError CONFIG_INVALID
 */
export function parseKeyReference(what: string, given: string): KeyReference {
  // Tables on narrow terminals end a shortened key_id in an ellipsis.
  const text = given.replace(/…$/u, "");
  if (isKeyId(text)) return { kind: "key_id", text };
  const state = STATES.find((one) => text === `@${one}`);
  if (state !== undefined) return { kind: "state", text, state };
  const lower = text.toLowerCase();
  if (isKeyId(lower)) return { kind: "key_id", text: lower };
  if (mayBeginKeyId(lower) || LONG_CKA_ID.test(lower)) return { kind: "part", text: lower };
  throw new KmsError(
    "CONFIG_INVALID",
    `${what}: ${JSON.stringify(truncate(text, MAX_SHOWN))} identifies no KEK; give a key_id that 'keys list' shows, its beginning, a CKA_ID in hexadecimal, @active, @standby or @retired`,
  );
}

/**
 * Returns the KEK that a reference names; undefined for a whole key_id that none of the KEKs has.
 * @throws KmsError CONFIG_INVALID when another reference matches none of them, or several
 */
export function findReferenced<T extends NamedKey>(
  what: string,
  reference: KeyReference,
  keys: readonly T[],
): T | undefined {
  const { kind, text } = reference;
  if (kind === "key_id") return keys.find(({ keyIds }) => keyIds.includes(text));
  const fitting =
    kind === "state" ? keys.filter(({ state }) => state === reference.state) : keysWithPart(text, keys);
  const [only, ...others] = fitting;
  if (only !== undefined && others.length === 0) return only;
  const problem =
    only === undefined
      ? `${text} matches no KEK`
      : `${text} matches ${fitting.map(({ keyIds }) => keyIds[0] ?? "").join(" and ")}`;
  throw new KmsError("CONFIG_INVALID", `${what}: ${problem}; give the whole key_id that 'keys list' shows`);
}

/** An exact CKA_ID takes precedence over the beginning of a longer one. */
function keysWithPart<T extends NamedKey>(text: string, keys: readonly T[]): T[] {
  const startingWith = (start: string): T[] =>
    keys.filter(({ keyIds }) => keyIds.some((keyId) => keyId.startsWith(start)));
  const ckaId = /^(?:[0-9a-f]{2})+$/.test(text) ? nameCkaId(Buffer.from(text, "hex")) : text;
  const exact = startingWith(`${ckaId}.`);
  return exact.length > 0 ? exact : startingWith(text);
}

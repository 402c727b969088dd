// PKCS#11 URIs (RFC 7512): parsing, formatting, and what a URI must contain to name a KEK. Stricter than the RFC in
// five ways: pin-value is refused, a slot number requires the token's name or serial, `type` must be secret-key, no
// attribute may be empty, and "&" before the "?" may not be followed by an attribute. Scheme and hex digits are
// case-insensitive; everything else is case-sensitive (sections 2.3 and 2.5). No message repeats a value from the query.
import { isUtf8 } from "node:buffer";
import type { KmsError } from "../errors.js";
import { truncate } from "../untrusted-text.js";
import { invalid } from "./invalid.js";
import { percentDecode, percentEncode } from "./percent-coding.js";
import { similarName } from "./similar-name.js";
import { parsePinSourceName } from "./pin-source-name.js";

export interface Pkcs11Uri {
  readonly token?: string;
  readonly manufacturer?: string;
  readonly serial?: string;
  readonly model?: string;
  readonly slotId?: number;
  readonly slotDescription?: string;
  readonly slotManufacturer?: string;
  readonly libraryDescription?: string;
  readonly libraryManufacturer?: string;
  /** `major` or `major.minor`. */
  readonly libraryVersion?: string;
  /** CKA_LABEL; of a KEK, the part before "@". */
  readonly object?: string;
  /** CKA_ID. */
  readonly id?: Uint8Array;
  readonly type?: "secret-key";
  readonly modulePath?: string;
  readonly moduleName?: string;
  /** In the grammar of `parsePinSourceName`. */
  readonly pinSource?: string;
}

/** A URI that names a KEK. */
export type KekUri = Pkcs11Uri & { readonly object: string };

/** The attributes that select a token; every one that is present must match. */
export type UriTokenSelector = Pick<Pkcs11Uri, "token" | "serial" | "manufacturer" | "model" | "slotId">;

/** "@" and the activation instant must fit behind it in a label of 40 bytes (YubiHSM 2). */
export const MAX_OBJECT_NAME_LENGTH = 15;

type Draft = { -readonly [Field in keyof Pkcs11Uri]: Pkcs11Uri[Field] };
type TextField = Exclude<keyof Pkcs11Uri, "slotId" | "id" | "type">;

const EXAMPLE =
  "pkcs11:token=kms;object=kms-kek?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/path";

/** In the order in which formatPkcs11Uri writes them. */
const PATH_FIELDS = {
  "library-manufacturer": "libraryManufacturer",
  "library-description": "libraryDescription",
  "library-version": "libraryVersion",
  "slot-manufacturer": "slotManufacturer",
  "slot-description": "slotDescription",
  "slot-id": "slotId",
  manufacturer: "manufacturer",
  model: "model",
  serial: "serial",
  token: "token",
  object: "object",
  id: "id",
  type: "type",
} as const satisfies Record<string, keyof Pkcs11Uri>;
const QUERY_FIELDS = {
  "module-path": "modulePath",
  "module-name": "moduleName",
  "pin-source": "pinSource",
} as const satisfies Record<string, keyof Pkcs11Uri>;
const NOT_FOR_SELECTION = [
  "library-manufacturer",
  "library-description",
  "library-version",
  "slot-manufacturer",
  "slot-description",
] as const;

/** Returns the URI's attributes. @throws KmsError CONFIG_INVALID with the problem and its correction, never a PIN */
export function parsePkcs11Uri(text: string): Pkcs11Uri {
  if (/(^|[:;?&])\s*pin[-_]?value/i.test(text)) {
    throw invalid(
      "pin-value is refused, since process lists and logs would show it; use pin-source=file:/path",
    );
  }
  const scheme = /^pkcs11:/i.exec(text)?.[0];
  if (scheme === undefined) {
    const quoted = /^[\s\p{Pi}\p{Pf}"'\u201e]/u.test(text)
      ? "begins with a quotation mark or a space, so it "
      : "";
    throw invalid(`${quoted}is not a PKCS#11 URI; give one such as ${EXAMPLE}`);
  }
  const attributes = text.slice(scheme.length);
  const mark = attributes.indexOf("?");
  const draft: Draft = {};
  readAttributes(draft, mark < 0 ? attributes : attributes.slice(0, mark), ";", PATH_FIELDS);
  if (mark >= 0) readAttributes(draft, attributes.slice(mark + 1), "&", QUERY_FIELDS);
  if (draft.slotId !== undefined && draft.token === undefined && draft.serial === undefined) {
    throw invalid("slot-id alone does not identify a token; add token=LABEL or serial=NUMBER");
  }
  return draft;
}

/**
 * Returns the URI if it can name a KEK.
 * @throws KmsError CONFIG_INVALID if `object` is missing or cannot be a KEK's name, or if the URI has attributes of the
 * slot or the library that this plugin does not compare
 */
export function requireKekUri(uri: Pkcs11Uri): KekUri {
  const { object } = uri;
  if (object === undefined) throw invalid("does not name a KEK; add object=NAME, such as object=kms-kek");
  if (object.length > MAX_OBJECT_NAME_LENGTH || !/^[\x20-\x7e]+$/.test(object) || object.includes("@")) {
    throw invalid(
      `object cannot be the name of a KEK; give 1 to ${MAX_OBJECT_NAME_LENGTH} printable ASCII characters without "@", such as kms-kek`,
    );
  }
  const ignored = NOT_FOR_SELECTION.find((name) => uri[PATH_FIELDS[name]] !== undefined);
  if (ignored !== undefined) {
    throw invalid(`${ignored} cannot select a token; use token, serial, manufacturer, model and slot-id`);
  }
  return { ...uri, object };
}

/** Returns the attributes of the URI that select the token. */
export function tokenSelector(uri: Pkcs11Uri): UriTokenSelector {
  const { token, serial, manufacturer, model, slotId } = uri;
  const all = { token, serial, manufacturer, model, slotId };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

/**
 * Returns how a URI selects its token, without the slot, whose number may differ between nodes: "token=kms;serial=1". It
 * is bound to a sealed PIN, so its form must not change.
 */
export function describeSelected({ token, serial, manufacturer, model }: Pkcs11Uri): string {
  const parts = { token, serial, manufacturer, model };
  return Object.entries(parts)
    .flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]))
    .join(";");
}

/** Returns the URI in canonical form, which `parsePkcs11Uri` can read; it holds no PIN. */
export function formatPkcs11Uri(uri: Pkcs11Uri): string {
  const query = formatAttributes(uri, QUERY_FIELDS, "&", /[^A-Za-z0-9._~:@,+/-]/gu);
  return `pkcs11:${formatAttributes(uri, PATH_FIELDS, ";", /[^A-Za-z0-9._~:@,+-]/gu)}${query === "" ? "" : `?${query}`}`;
}

function formatAttributes(
  uri: Pkcs11Uri,
  fields: Readonly<Record<string, keyof Pkcs11Uri>>,
  separator: string,
  unsafe: RegExp,
): string {
  const format = (value: string | number | Uint8Array): string =>
    value instanceof Uint8Array
      ? percentEncode(value)
      : String(value).replace(unsafe, (char) => percentEncode(Buffer.from(char)));
  return Object.entries(fields)
    .flatMap(([name, field]) => (uri[field] === undefined ? [] : [`${name}=${format(uri[field])}`]))
    .join(separator);
}

function readAttributes(
  draft: Draft,
  text: string,
  separator: ";" | "&",
  fields: Readonly<Record<string, keyof Pkcs11Uri>>,
): void {
  for (const part of text === "" ? [] : text.split(separator)) {
    const at = part.indexOf("=");
    const name = part.slice(0, Math.max(at, 0));
    if (!/^[A-Za-z0-9_-]+$/.test(name)) {
      throw invalid(
        `an attribute is not written as name=value; separate attributes by "${separator}", as in ${EXAMPLE}`,
      );
    }
    // Vendor attributes (section 2.3) have no effect here.
    if (/^x-/i.test(name)) continue;
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (field === undefined) throw unknownAttribute(name, separator, fields);
    if (draft[field] !== undefined) throw invalid(`${name} appears twice; give it once`);
    const value = part.slice(at + 1);
    requireSeparated(name, value, separator);
    assign(draft, field, name, percentDecode(name, value, separator));
  }
}

/** Finds the attribute that follows the other half's separator, which would become a part of this value. */
function requireSeparated(name: string, value: string, separator: ";" | "&"): void {
  const wrong = separator === ";" ? "&" : ";";
  for (const part of value.split(wrong).slice(1)) {
    const next = part.slice(0, Math.max(part.indexOf("="), 0));
    const inPath = Object.hasOwn(PATH_FIELDS, next);
    if (!inPath && !Object.hasOwn(QUERY_FIELDS, next)) continue;
    const belongsHere = inPath === (separator === ";");
    const advice = belongsHere
      ? `write "${separator}" between them`
      : inPath
        ? `move ${next} before the "?"`
        : `write "?" before ${next}, and "&" between the attributes after it`;
    throw invalid(`${name} and ${next} are separated by "${wrong}"; ${advice}`);
  }
}

function unknownAttribute(name: string, separator: ";" | "&", fields: object): KmsError {
  const [others, side] = separator === ";" ? [QUERY_FIELDS, "after"] : [PATH_FIELDS, "before"];
  if (Object.hasOwn(others, name)) return invalid(`${name} belongs ${side} the "?"; move it there`);
  const known = Object.keys(fields);
  const similar = similarName(name, known);
  const hint = similar === undefined ? `give one of ${known.join(", ")}` : `did you mean ${similar}?`;
  return invalid(`attribute "${truncate(name, 40)}" is not known; ${hint}`);
}

function assign(draft: Draft, field: keyof Pkcs11Uri, name: string, bytes: Buffer): void {
  if (bytes.length === 0) throw invalid(`${name} is empty; omit it or give it a value`);
  if (field === "id") draft.id = Uint8Array.from(bytes);
  else if (field === "slotId") draft.slotId = slotNumber(bytes.toString("latin1"));
  else if (field === "type") draft.type = secretKeyType(bytes.toString("latin1"));
  else draft[field] = textOf(field, name, bytes);
}

function slotNumber(text: string): number {
  const value = Number(text);
  if (/^[0-9]+$/.test(text) && Number.isSafeInteger(value)) return value;
  throw invalid("slot-id is not a slot number; give decimal digits, such as slot-id=1");
}

function secretKeyType(text: string): "secret-key" {
  if (text === "secret-key") return text;
  throw invalid("type is not the object class of a KEK; write type=secret-key or omit it");
}

function textOf(field: TextField, name: string, bytes: Buffer): string {
  if (!isUtf8(bytes)) {
    throw invalid(`${name} is not UTF-8 after percent-decoding; percent-encode its UTF-8 bytes`);
  }
  const text = bytes.toString("utf8");
  if (text.includes("\0")) throw invalid(`${name} holds a zero byte; remove %00`);
  if (field === "libraryVersion" && !/^[0-9]+(\.[0-9]+)?$/.test(text)) {
    throw invalid("library-version is not a version; give major.minor, such as 2.6");
  }
  if (field === "pinSource") parsePinSourceName(text);
  return text;
}

// Canonical JSON (RFC 8785) for the documents that are signed: text, whole numbers, booleans, null, lists and objects. The
// bytes that a signature covers are always computed from the values that are used, never taken from a file.
import { createHash } from "node:crypto";
import { refused } from "./refused.js";

/** Has no encoding in UTF-8. */
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Returns the canonical bytes of a value. @throws KmsError NOT_APPROVED for values that it does not represent */
export function canonicalBytes(value: unknown): Buffer {
  return Buffer.from(canonical(value));
}

/** Returns the digest by which a document is named, "sha256:" and 64 hexadecimal digits. */
export function digestOf(value: unknown): string {
  return `sha256:${createHash("sha256").update(canonicalBytes(value)).digest("hex")}`;
}

function canonical(value: unknown): string {
  if (value === null || typeof value === "boolean") return JSON.stringify(value);
  if (typeof value === "number" && Number.isSafeInteger(value) && !Object.is(value, -0)) return String(value);
  if (typeof value === "string" && !LONE_SURROGATE.test(value)) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
    const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([name, member]) => `${canonical(name)}:${canonical(member)}`).join(",")}}`;
  }
  throw refused("a value in it has no canonical form: a fraction, or a text with half of a surrogate pair");
}

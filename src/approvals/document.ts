// Reads the JSON files of approvals: bounded, of one kind, without unknown fields. Messages name the field, never its value.
import { createHash } from "node:crypto";
import { z } from "zod";
import { KmsError } from "../errors.js";
import { codeOf } from "../files/file-error.js";
import { readAtMost } from "../files/read-into.js";
import { oneLine, truncate } from "../untrusted-text.js";
import { refused } from "./refused.js";
import { MAX_SIGNATURE } from "./ssh-signature.js";

/** Largest file of a policy or an approval, in bytes. */
const MAX_DOCUMENT_BYTES = 1 << 20;

/** An instant as the documents write it: in UTC, to the second. */
export const instant = z
  .string()
  .regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, "must be a time such as 2026-12-01T10:00:00Z")
  .refine((text) => formatSecond(Date.parse(text)) === text, "must be a time that exists");

/** A name without characters that look like others. */
export const name = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/,
    "must consist of letters, digits, dots, dashes, underscores and @, and be at most 64 characters long",
  );

export const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, "must be sha256: and 64 hexadecimal digits");

export const keyId = z.string().regex(/^[\x21-\x7e]{1,128}$/, "must be a key_id");

export const signatures = z.array(z.string().max(MAX_SIGNATURE)).max(100);

/** Returns an instant, given in ms since the epoch, as the documents write it; undefined if it does not fit. */
export function formatSecond(ms: number): string | undefined {
  if (!Number.isFinite(ms) || Math.abs(ms) > 8.64e15) return undefined;
  return `${new Date(Math.floor(ms / 1000) * 1000).toISOString().slice(0, 19)}Z`;
}

/**
 * Parses a document.
 * @param maker the command that writes such a document
 * @throws KmsError NOT_APPROVED that names its fields at fault
 */
export function parseDocument<Schema extends z.ZodType>(
  schema: Schema,
  text: string,
  what: string,
  maker: string,
): z.output<Schema> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw refused(`${what} is not JSON; give a file that '${maker}' wrote`, error);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = truncate(issue?.path.map(String).join(".") ?? "", 80);
  if (where === "type") throw refused(`it is not ${what}; give a file that '${maker}' wrote`);
  // The message repeats the names of unknown fields.
  const problem = truncate(oneLine(issue?.message ?? ""), 200);
  throw refused(`${what} is invalid${where === "" ? "" : ` at ${where}`}: ${problem}`);
}

/** Returns the digest of a file that an operator names. @throws KmsError CONFIG_INVALID if it cannot be read */
export function digestOfFile(path: string): string {
  return `sha256:${createHash("sha256").update(readDocument(path)).digest("hex")}`;
}

/**
 * Reads a file that an operator names.
 * @param read by default also reads a pipe, and waits for its writer
 * @throws KmsError CONFIG_INVALID if it cannot be read
 */
export function readDocument(path: string, read: typeof readAtMost = readAtMost): string {
  try {
    return read(path, MAX_DOCUMENT_BYTES).toString("utf8");
  } catch (error) {
    if (error instanceof KmsError) throw error;
    throw new KmsError(
      "CONFIG_INVALID",
      `${path}: cannot be read (${codeOf(error)}); give a readable file`,
      error,
    );
  }
}

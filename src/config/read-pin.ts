// Reads the PIN from its source. The PIN leaves this file in one Buffer, which the caller zeroes; buffers in between
// are zeroed here (an environment variable is a string, which JavaScript cannot erase). No message contains the PIN or
// its length.
import { isUtf8 } from "node:buffer";
import { closeSync, fstatSync, openSync } from "node:fs";
import { KmsError } from "../errors.js";
import { codeOf } from "../files/file-error.js";
import { readInto } from "../files/read-into.js";
import { READ_AT_ONCE } from "../files/regular-file.js";
import { describePinSource, type Environment, type PinSource } from "./pin-source.js";

/** Bytes. No vendor accepts a longer PIN; AWS CloudHSM's "user:password" is the longest known. */
export const MAX_PIN_BYTES = 255;

/**
 * Returns the PIN, 1 to 255 bytes of UTF-8 without its trailing line break, for the caller to zero; undefined if no PIN
 * is configured.
 * @throws KmsError PIN_UNREADABLE with the source and what to do
 */
export function readPin(source: PinSource, env: Environment): Buffer | undefined {
  switch (source.kind) {
    case "none":
      return undefined;
    case "unlock":
      throw unreadable(
        source,
        "belongs to the running plugin; run the command on a terminal, where it prompts for the PIN, or give --pin-stdin",
      );
    case "stdin":
    case "terminal":
      throw unreadable(source, "is read by commands only");
    case "env":
      return checkPin(Buffer.from(env[source.name] ?? ""), source);
    case "file":
    case "credential":
      return readPinFile(source);
  }
}

function readPinFile(source: PinSource & { path: string }): Buffer {
  // One byte more than the longest PIN and its line break, to detect a file that is too long.
  const bytes = Buffer.alloc(MAX_PIN_BYTES + 3);
  try {
    return checkPin(bytes.subarray(0, readRegular(source.path, bytes)), source);
  } catch (error) {
    if (error instanceof KmsError) throw error;
    const code = codeOf(error);
    throw unreadable(
      source,
      `cannot be read (${code}); ${WHAT_TO_DO[code] ?? "give a readable file"}`,
      error,
    );
  } finally {
    bytes.fill(0);
  }
}

const WHAT_TO_DO: Readonly<Record<string, string>> = {
  ENOENT: "create it with the token's user PIN, mode 0600",
  EACCES: "let the plugin's user read it",
  EISDIR: "give a file that holds the token's user PIN",
  ENXIO: "give a regular file",
};

/** Fills `bytes` from the file; returns the number of bytes read. */
function readRegular(path: string, bytes: Buffer): number {
  const file = openSync(path, READ_AT_ONCE);
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) {
      throw Object.assign(new Error("not a regular file"), { code: stat.isDirectory() ? "EISDIR" : "ENXIO" });
    }
    return readInto(file, bytes);
  } finally {
    closeSync(file);
  }
}

/**
 * Returns a copy of the PIN without its line break, and zeroes `bytes`. Every PIN passes through here, so that bytes
 * that cannot be a PIN do not cost a PIN attempt.
 * @throws KmsError PIN_UNREADABLE
 */
export function checkPin(bytes: Buffer, source: PinSource): Buffer {
  try {
    const end =
      bytes.at(-1) !== 0x0a ? bytes.length : bytes.at(-2) === 0x0d ? bytes.length - 2 : bytes.length - 1;
    const pin = bytes.subarray(0, end);
    const problem = problemOf(pin);
    if (problem !== undefined) throw unreadable(source, problem);
    const copy = Buffer.alloc(pin.length);
    pin.copy(copy);
    return copy;
  } finally {
    bytes.fill(0);
  }
}

const BYTE_ORDER_MARK = "\u{feff}";
/** Node puts this character in place of bytes in the environment that are not UTF-8. */
const REPLACEMENT = "\u{fffd}";
/** Invisible characters that copying may add to a text: zero-width, direction marks, line separators. */
const INVISIBLE = [0x200b, 0x200c, 0x200d, 0x200e, 0x200f, 0x2028, 0x2029, 0x2060].map((code) =>
  String.fromCodePoint(code),
);
const UTF16_MARKS = [Buffer.of(0xff, 0xfe), Buffer.of(0xfe, 0xff)];

function problemOf(pin: Buffer): string | undefined {
  if (pin.length === 0) return "is empty; the token's user PIN is required";
  if (UTF16_MARKS.some((mark) => pin.subarray(0, 2).equals(mark))) {
    return "is UTF-16 text; save it as UTF-8 without a byte order mark";
  }
  if (pin.includes(0)) return "holds a zero byte; save it as UTF-8 text, not UTF-16, without padding";
  if (pin.includes(0x0a) || pin.includes(0x0d)) return "has several lines; put only the PIN into it";
  if (pin.length > MAX_PIN_BYTES) return `is too long for a PIN; at most ${MAX_PIN_BYTES} bytes are allowed`;
  if (!isUtf8(pin) || pin.includes(REPLACEMENT)) return "is not UTF-8 text; save the PIN as UTF-8";
  if (pin.some(isControl)) return "holds a control character; put only the PIN into it";
  if (pin.includes(BYTE_ORDER_MARK)) return "holds a byte order mark (BOM); save it as UTF-8 without one";
  if (INVISIBLE.some((character) => pin.includes(character))) {
    return "holds an invisible character; put only the PIN into it";
  }
  return undefined;
}

/** Returns whether a C0, DEL or C1 character is at `at`; C1 in UTF-8 is 0xC2 followed by 0x80 to 0x9F. */
function isControl(byte: number, at: number, pin: Buffer): boolean {
  return byte < 0x20 || byte === 0x7f || (byte === 0xc2 && (pin[at + 1] ?? 0) < 0xa0);
}

function unreadable(source: PinSource, problem: string, cause?: unknown): KmsError {
  const where =
    source.kind === "credential"
      ? `${describePinSource(source)} (${source.path})`
      : describePinSource(source);
  // A file or variable can be corrected; a PIN that was sent or typed cannot, so the message is about the PIN itself.
  const isHandedOver = source.kind === "unlock" || source.kind === "stdin" || source.kind === "terminal";
  const subject = isHandedOver ? `PIN from ${where}` : `PIN's ${where}`;
  return new KmsError("PIN_UNREADABLE", `the ${subject} ${problem}`, cause);
}

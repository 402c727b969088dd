// Where the PIN comes from and how it is read. The PIN leaves this file in one Buffer, which the caller
// zeroes; buffers in between are zeroed here (an environment variable is a string, which JavaScript cannot
// wipe). No message, description or stamp holds the PIN or its length.
import { isUtf8 } from "node:buffer";
import { closeSync, constants, existsSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { KmsError } from "../errors.js";
import type { PinSourceName } from "./pin-source-name.js";

export type PinSource =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "credential"; readonly path: string }
  | { readonly kind: "env"; readonly name: string }
  /** Handed over to the running plugin on this socket. */
  | { readonly kind: "unlock"; readonly path: string }
  /** Handed to this command by an operator. */
  | { readonly kind: "stdin" }
  | { readonly kind: "terminal" }
  | { readonly kind: "none" };

/** The systemd credential that is used when nothing else is configured. */
export const DEFAULT_CREDENTIAL = "kms-pkcs11-pin";
/** Bytes. No vendor takes a longer PIN; AWS CloudHSM's "user:password" is the longest known. */
export const MAX_PIN_BYTES = 255;

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * A file in $CREDENTIALS_DIRECTORY is a credential, too.
 * @throws KmsError CONFIG_INVALID for a credential without $CREDENTIALS_DIRECTORY
 */
export function resolvePinSource(name: PinSourceName, env: Environment): PinSource {
  const directory = credentialsDirectory(env);
  if (name.kind === "file" && directory !== undefined && dirname(name.path) === resolve(directory)) {
    return { kind: "credential", path: name.path };
  }
  if (name.kind !== "credential") return name;
  if (directory !== undefined) return { kind: "credential", path: join(directory, name.name) };
  throw new KmsError(
    "CONFIG_INVALID",
    `$CREDENTIALS_DIRECTORY is not set; run under systemd with LoadCredential=${name.name}:/path, or use a file`,
  );
}

/** Returns the default credential if systemd has passed it on, else `none`. */
export function defaultPinSource(env: Environment): PinSource {
  const directory = credentialsDirectory(env);
  if (directory === undefined) return { kind: "none" };
  const path = join(directory, DEFAULT_CREDENTIAL);
  return existsSync(path) ? { kind: "credential", path } : { kind: "none" };
}

function credentialsDirectory(env: Environment): string | undefined {
  const directory = env["CREDENTIALS_DIRECTORY"];
  return directory !== undefined && isAbsolute(directory) ? directory : undefined;
}

/**
 * Returns the PIN, 1 to 255 bytes of UTF-8 without its trailing line break, for the caller to zero; undefined when
 * no PIN is configured.
 * @throws KmsError PIN_UNREADABLE naming the source and what to do
 */
export function readPin(source: PinSource, env: Environment): Buffer | undefined {
  switch (source.kind) {
    case "none":
      return undefined;
    case "unlock":
      throw unreadable(
        source,
        "belongs to the running plugin; run the command on a terminal, which asks for the PIN, or give --pin-stdin",
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
  // One byte more than a PIN with its line break shows that the file is too long.
  const bytes = Buffer.alloc(MAX_PIN_BYTES + 3);
  try {
    return checkPin(bytes.subarray(0, readInto(source.path, bytes)), source);
  } catch (error) {
    if (error instanceof KmsError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? "unknown error";
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

/** Returns how many bytes the file gave. Does not wait for the writer of a pipe. */
function readInto(path: string, bytes: Buffer): number {
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) {
      throw Object.assign(new Error("not a regular file"), { code: stat.isDirectory() ? "EISDIR" : "ENXIO" });
    }
    let length = 0;
    for (let got = -1; got !== 0 && length < bytes.length; length += got) {
      got = readSync(file, bytes, length, bytes.length - length, null);
    }
    return length;
  } finally {
    closeSync(file);
  }
}

/**
 * Returns a copy of the PIN without a line break and zeroes `bytes`. Every PIN passes through here, so that bytes which
 * cannot be a PIN cost no attempt.
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
/** Node's replacement for bytes in the environment that are not UTF-8. */
const REPLACEMENT = "\u{fffd}";
/** Invisible characters that copying adds to a text: zero-width, direction marks, line separators. */
const UNSEEN = [0x200b, 0x200c, 0x200d, 0x200e, 0x200f, 0x2028, 0x2029, 0x2060].map((code) =>
  String.fromCodePoint(code),
);
const UTF16_MARKS = [Buffer.of(0xff, 0xfe), Buffer.of(0xfe, 0xff)];

function problemOf(pin: Buffer): string | undefined {
  if (pin.length === 0) return "is empty; put the token's user PIN into it";
  if (UTF16_MARKS.some((mark) => pin.subarray(0, 2).equals(mark))) {
    return "is UTF-16 text; save it as UTF-8 without a byte order mark";
  }
  if (pin.includes(0)) return "holds a zero byte; save it as UTF-8 text, not UTF-16, without padding";
  if (pin.includes(0x0a) || pin.includes(0x0d)) return "has several lines; put only the PIN into it";
  if (pin.length > MAX_PIN_BYTES) return `is too long for a PIN; at most ${MAX_PIN_BYTES} bytes are allowed`;
  if (!isUtf8(pin) || pin.includes(REPLACEMENT)) return "is not UTF-8 text; save the PIN as UTF-8";
  if (pin.some(isControl)) return "holds a control character; put only the PIN into it";
  if (pin.includes(BYTE_ORDER_MARK)) return "holds a byte order mark (BOM); save it as UTF-8 without one";
  if (UNSEEN.some((character) => pin.includes(character))) {
    return "holds an invisible character; put only the PIN into it";
  }
  return undefined;
}

/** C0, DEL, and C1, whose two bytes in UTF-8 are 0xC2 and 0x80 to 0x9F. */
function isControl(byte: number, at: number, pin: Buffer): boolean {
  return byte < 0x20 || byte === 0x7f || (byte === 0xc2 && (pin[at + 1] ?? 0) < 0xa0);
}

/**
 * Returns a text that changes when a file does: its identity and times, not its size, which would tell the PIN's
 * length. What systemd or a process's starter hands over is new at every start and shows nothing of a change:
 * these sources have one stamp for ever, or each restart would count as a correction and cost an attempt.
 */
export function pinSourceStamp(source: PinSource): string {
  switch (source.kind) {
    case "none":
    case "unlock":
    case "stdin":
    case "terminal":
      return source.kind;
    case "env":
      return `env:${source.name}`;
    case "credential":
      return `credential:${basename(source.path)}`;
    case "file":
      return `file:${fileStamp(source.path)}`;
  }
}

/** Whether the stamp changes when the PIN is corrected. */
export function stampShowsChange({ kind }: PinSource): boolean {
  return kind !== "env" && kind !== "credential";
}

function fileStamp(path: string): string {
  try {
    const { dev, ino, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return [dev, ino, mtimeNs, ctimeNs].join(":");
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "unreadable";
  }
}

/** Returns what is unsafe about a PIN file that is there. systemd guards its credentials itself. */
export function permissionWarning(source: PinSource): string | undefined {
  if (source.kind !== "file") return undefined;
  try {
    const { mode } = statSync(source.path);
    return (mode & 0o077) === 0 ? undefined : `PIN file ${source.path} can be read by others; chmod 0400 it`;
  } catch {
    return undefined;
  }
}

/** For logs and messages. */
export function describePinSource(source: PinSource): string {
  switch (source.kind) {
    case "none":
      return "no PIN source";
    case "unlock":
      return `socket ${source.path}`;
    case "stdin":
      return "standard input";
    case "terminal":
      return "the terminal";
    case "env":
      return `environment variable ${source.name}`;
    case "credential":
      return `systemd credential ${basename(source.path)}`;
    case "file":
      return `file ${source.path}`;
  }
}

/** Returns what to do when a PIN from this source is refused. */
export function correctPin(source: PinSource): string {
  switch (source.kind) {
    case "none":
      return "correct the PIN in its source";
    case "file":
      return `correct the PIN in ${describePinSource(source)}`;
    case "env":
    case "credential":
      return `correct the PIN in ${describePinSource(source)} and restart the plugin`;
    case "unlock":
      return `pass the right PIN with kms-pkcs11 unlock --socket ${source.path}`;
    case "stdin":
    case "terminal":
      return "run the command again with the right PIN";
  }
}

/** Returns a copy of `env` without the variables that hold a PIN, for child processes. */
export function environmentWithoutPin(
  env: Environment,
  sources: readonly PinSource[],
): Record<string, string> {
  const pins = new Set(sources.flatMap((source) => (source.kind === "env" ? [source.name] : [])));
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) =>
      value === undefined || pins.has(name) ? [] : [[name, value]],
    ),
  );
}

function unreadable(source: PinSource, problem: string, cause?: unknown): KmsError {
  const where =
    source.kind === "credential"
      ? `${describePinSource(source)} (${source.path})`
      : describePinSource(source);
  return new KmsError("PIN_UNREADABLE", `the PIN's ${where} ${problem}`, cause);
}

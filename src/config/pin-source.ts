// Where the PIN comes from, and what to report about that source. `read-pin.ts` reads it. No description or stamp
// contains the PIN or its length.
import { existsSync, statSync } from "node:fs";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { KmsError } from "../errors.js";
import type { PinSourceName } from "./pin-source-name.js";

export type PinSource =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "credential"; readonly path: string }
  | { readonly kind: "env"; readonly name: string }
  /**
   * An operator sends the PIN to the running plugin on this socket, or several custodians send their shares of the PIN
   * that the file `sealed` holds.
   */
  | { readonly kind: "unlock"; readonly path: string; readonly sealed?: string }
  /** An operator gives the PIN to a command. */
  | { readonly kind: "stdin" }
  | { readonly kind: "terminal" }
  | { readonly kind: "none" };

/** The systemd credential that is used if no PIN source is configured. */
export const DEFAULT_CREDENTIAL = "kms-pkcs11-pin";

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Returns the source that a name stands for. A file in $CREDENTIALS_DIRECTORY counts as a credential.
 * @throws KmsError CONFIG_INVALID for a credential if $CREDENTIALS_DIRECTORY is not set
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

/** Returns the default credential if systemd provides it, otherwise `none`. */
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
 * Returns a text that changes with the PIN file. It contains the file's identity and times, but not its size, which
 * would reveal the PIN's length. Credentials and the environment are new at every start, whether the PIN has changed or
 * not. Their stamp is constant: otherwise every restart would count as a correction and cost a PIN attempt.
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

/** Returns whether the stamp changes when the PIN is corrected. */
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

/** Returns a warning if other users can read an existing PIN file; systemd protects its credentials itself. */
export function permissionWarning(source: PinSource): string | undefined {
  if (source.kind !== "file") return undefined;
  try {
    const { mode } = statSync(source.path);
    return (mode & 0o077) === 0 ? undefined : `PIN file ${source.path} can be read by others; chmod 0400 it`;
  } catch {
    return undefined;
  }
}

/** Returns whether a PIN can be read from this source on this machine, without reading it. */
export function isPinPresent(source: PinSource, env: Environment): boolean {
  if (source.kind === "env") return env[source.name] !== undefined;
  return source.kind === "file" && existsSync(source.path);
}

/** Returns the source in words for logs and messages. */
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

/** Returns the advice for a refused PIN from this source. */
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
      return source.sealed === undefined
        ? `pass the right PIN with kms-pkcs11 unlock --socket ${source.path}`
        : `have the custodians run kms-pkcs11 unlock --share --socket ${source.path}`;
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

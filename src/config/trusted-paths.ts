// Checks the paths in the settings that other users must not control, by the rule of files/ownership.ts.
import { statSync } from "node:fs";
import { dirname } from "node:path";
import { KmsError } from "../errors.js";
import { fileError } from "../files/file-error.js";
import { fileProblem, folderProblem, type Trust } from "../files/ownership.js";
import type { Settings } from "./settings.js";

export interface PathProblem {
  readonly subject: "state" | "audit" | "socket" | "PIN" | "sealed PIN" | "module";
  readonly error: KmsError;
}

export interface PathOptions {
  /** True for commands, which root may run for a plugin of another user. */
  readonly isCommand: boolean;
}

/** Returns every path that another user could tamper with, or that cannot be inspected. */
export function untrustedPaths(settings: Settings, { isCommand }: PathOptions): PathProblem[] {
  const { stateDir, audit, socket, tokens } = settings;
  const paths: TrustedPath[] = [];
  const add = (
    subject: PathProblem["subject"],
    path: string,
    kind: TrustedPath["kind"],
    danger: string,
  ): void => {
    // Root runs the module's code in its own process, so the module's owner matters for commands too.
    const forAnotherUser = isCommand && subject !== "module";
    paths.push({ subject, path, kind, trust: { danger, forAnotherUser } });
  };
  if (stateDir !== undefined) add("state", stateDir, "folder", "forge or remove the plugin's state");
  if (audit !== undefined) add("audit", dirname(audit.keyFile), "folder", "replace the audit key");
  if (socket !== undefined && !socket.abstract) {
    add("socket", dirname(socket.path), "folder", "replace the socket");
  }
  for (const { pin, modulePath } of tokens) {
    if (pin.kind === "unlock") {
      add("PIN", dirname(pin.path), "folder", "listen there for the PIN");
      if (pin.sealed !== undefined) {
        add("sealed PIN", dirname(pin.sealed), "folder", "replace the sealed PIN");
      }
    }
    add("module", modulePath, "file", "run code of their own with the PIN and the KEK");
  }
  return paths.flatMap((path) => problemOf(path) ?? []);
}

/**
 * Checks that no other user could tamper with the paths in the settings.
 * @throws KmsError CONFIG_INVALID that names each such path and what to do
 */
export function requireTrustedPaths(settings: Settings, options: PathOptions): void {
  // Loading reports a missing module better, and serve checks a socket's folder when it binds the socket.
  const problems = untrustedPaths(settings, options).filter(
    ({ error, subject }) => error.code === "CONFIG_INVALID" && !(options.isCommand && subject === "socket"),
  );
  const lines = [...new Set(problems.map(({ error }) => error.message))];
  if (lines.length > 0) throw new KmsError("CONFIG_INVALID", lines.join("\n"));
}

interface TrustedPath {
  readonly subject: PathProblem["subject"];
  readonly path: string;
  readonly kind: "file" | "folder";
  readonly trust: Trust;
}

function problemOf({ subject, path, kind, trust }: TrustedPath): PathProblem | undefined {
  try {
    const problem =
      kind === "file"
        ? (notRegular(path) ?? fileProblem(path, trust))
        : folderProblem(nearestExisting(path, subject), trust);
    return problem === undefined ? undefined : { subject, error: new KmsError("CONFIG_INVALID", problem) };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT") return { subject, error: missing(subject, path, error) };
    return { subject, error: fileError(error) ?? KmsError.from(error) };
  }
}

/** Finds a module that is a folder, or a FIFO, which would block dlopen. */
function notRegular(path: string): string | undefined {
  return statSync(path).isFile() ? undefined : `${path} is not a regular file; correct module-path`;
}

/** Returns the folder to check: the state directory and the audit key's folder are created on demand inside it. */
function nearestExisting(path: string, subject: PathProblem["subject"]): string {
  if (subject !== "state" && subject !== "audit") return path;
  let folder = path;
  while (statSync(folder, { throwIfNoEntry: false }) === undefined && folder !== dirname(folder)) {
    folder = dirname(folder);
  }
  return folder;
}

function missing(subject: PathProblem["subject"], path: string, cause: unknown): KmsError {
  return subject === "module"
    ? new KmsError(
        "MODULE_UNUSABLE",
        `${path} does not exist; install the vendor's client or correct module-path`,
        cause,
      )
    : new KmsError("SOCKET_UNUSABLE", `${path} does not exist; create it with mode 0700`, cause);
}

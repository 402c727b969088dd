// What every token of the tests offers, whichever library is behind it, and what making one shares: a folder of its
// own, a PIN file, and errors that give the install line instead of a skipped test.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A token in a folder of its own. `env` is what a process needs to see it. */
export interface TestToken {
  readonly modulePath: string;
  /** The string for C_Initialize, for libraries that take one. */
  readonly moduleParameters?: string;
  readonly label: string;
  readonly pin: string;
  /** A file that holds the PIN and nothing else. */
  readonly pinFile: string;
  readonly env: Readonly<Record<string, string>>;
  remove(): void;
}

/** The PKCS#11 URI of an object on a token; `modulePath` when another module stands in front of it. */
export function tokenUri(token: TestToken, object: string, modulePath = token.modulePath): string {
  const path = `token=${encodeURIComponent(token.label)};object=${encodeURIComponent(object)}`;
  return `pkcs11:${path}?module-path=${modulePath}&pin-source=file:${token.pinFile}`;
}

export function makeFolder(kind: string): string {
  return mkdtempSync(join(tmpdir(), `kms-pkcs11-${kind}-`));
}

export function writePinFile(folder: string, pin: string, name = "pin"): string {
  const file = join(folder, name);
  writeFileSync(file, pin, { mode: 0o600 });
  return file;
}

/** The first of the paths that exists; otherwise an error with the line that installs it. */
export function findLibrary(what: string, paths: readonly string[], install: string): string {
  const found = paths.find((path) => existsSync(path));
  if (found === undefined) throw new Error(`${what} is missing: ${install}`);
  return found;
}

/** Runs a tool to its end and returns what it printed; a missing one is an error with its install line. */
export function runTool(
  tool: string,
  args: readonly string[],
  install: string,
  env: Readonly<Record<string, string>> = {},
): string {
  try {
    return execFileSync(tool, args, {
      encoding: "utf8",
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") {
      throw new Error(`${tool} is missing: ${install}`, { cause: error });
    }
    const { stderr } = error as { stderr?: string };
    throw new Error(`${tool} failed: ${(stderr ?? "").trim()}`, { cause: error });
  }
}

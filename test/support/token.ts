// What every token of the tests offers, whatever its library, and what making a token requires: a folder of its own, a
// PIN file, and errors that give the installation command instead of a skipped test.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A token in a folder of its own. `env` is the environment that a process needs to find it. */
export interface TestToken {
  readonly modulePath: string;
  /** The function that returns the library's functions, if it is not C_GetFunctionList. */
  readonly moduleEntry?: string;
  /** The string for C_Initialize, for libraries that take one. */
  readonly moduleParameters?: string;
  readonly label: string;
  readonly pin: string;
  /** A file that contains nothing but the PIN. */
  readonly pinFile: string;
  readonly env: Readonly<Record<string, string>>;
  remove(): void;
}

/** Returns the PKCS#11 URI of an object on a token; `modulePath` is for another module in front of the token's own. */
export function tokenUri(token: TestToken, object: string, modulePath = token.modulePath): string {
  const path = `token=${encodeURIComponent(token.label)};object=${encodeURIComponent(object)}`;
  return `pkcs11:${path}?module-path=${modulePath}&pin-source=file:${token.pinFile}`;
}

/** Makes a temporary folder. */
export function makeFolder(kind: string): string {
  return mkdtempSync(join(tmpdir(), `kms-pkcs11-${kind}-`));
}

/** Writes a PIN file and returns its path. */
export function writePinFile(folder: string, pin: string, name = "pin"): string {
  const file = join(folder, name);
  writeFileSync(file, pin, { mode: 0o600 });
  return file;
}

/** Returns the first of the paths that exists. Throws with the installation command if none does. */
export function findLibrary(what: string, paths: readonly string[], install: string): string {
  const found = paths.find((path) => existsSync(path));
  if (found === undefined) throw new Error(`${what} is missing: ${install}`);
  return found;
}

/** Runs a tool to its end and returns its output. Throws with the installation command if the tool is missing. */
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

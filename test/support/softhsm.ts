// SoftHSM tokens for tests, with their own configuration file and token folder, so that tests use neither the machine's
// tokens nor each other's. SoftHSM reads SOFTHSM2_CONF with C getenv: pass `env` to a child process.

import { cpSync, rmSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { inject } from "vitest";

import { findLibrary, makeFolder, runTool, writePinFile, type TestToken } from "./token.js";

const INSTALL = "apt-get install softhsm2";
const MODULES = [
  "/usr/lib/softhsm/libsofthsm2.so",
  "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
  "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
  "/usr/lib64/pkcs11/libsofthsm2.so",
  "/usr/local/lib/softhsm/libsofthsm2.so",
];

export interface SoftHsmOptions {
  readonly label?: string;
  readonly pin?: string;
  readonly soPin?: string;
}

/** One SoftHSM configuration. It is the TestToken with which it was made; `add` makes more tokens under it. */
export interface SoftHsm extends TestToken {
  readonly folder: string;
  readonly soPin: string;
  /** Makes another token under the same configuration, and therefore with the same `env`. */
  add(options: SoftHsmOptions): TestToken;
  /** Initialises the token again: removes its objects, and keeps its label and PIN. */
  reinitialise(): void;
}

/** Returns the path of libsofthsm2.so. Throws with the installation command if it is missing. */
export function softHsmModule(): string {
  return findLibrary("SoftHSM", MODULES, INSTALL);
}

/** Makes a configuration with one token. */
export function createSoftHsm(options: SoftHsmOptions = {}): SoftHsm {
  return createFirst(options, undefined);
}

/** Makes a configuration with a token that holds an active KEK `kms-kek`; all such tokens have it in common. */
export function createSoftHsmWithKek(): SoftHsm {
  return createFirst({}, inject("kekToken").folder);
}

/** @param copied the folder of a configuration whose token has the default options */
function createFirst(options: SoftHsmOptions, copied: string | undefined): SoftHsm {
  const modulePath = softHsmModule();
  const folder = makeFolder("softhsm");
  const configuration = join(folder, "softhsm2.conf");
  mkdirSync(join(folder, "tokens"), { mode: 0o700 });
  writeFileSync(
    configuration,
    `directories.tokendir = ${join(folder, "tokens")}\nobjectstore.backend = file\nlog.level = ERROR\n`,
  );
  const env = { SOFTHSM2_CONF: configuration };

  const initialise = (label: string, pin: string, soPin: string, where: readonly string[]): void => {
    const args = ["--init-token", ...where, "--label", label, "--pin", pin, "--so-pin", soPin];
    runTool("softhsm2-util", args, INSTALL, env);
  };
  const make = ({ label = "kms", pin = "1234", soPin = "5678" }: SoftHsmOptions, from?: string) => {
    if (from === undefined) initialise(label, pin, soPin, ["--free"]);
    else cpSync(join(from, "tokens"), join(folder, "tokens"), { recursive: true });
    return { modulePath, label, pin, soPin, pinFile: writePinFile(folder, pin, `pin-${label}`), env };
  };

  try {
    const first = make(options, copied);
    return {
      ...first,
      folder,
      add: (more) => ({ ...make(more), remove: () => undefined }),
      reinitialise: () => {
        initialise(first.label, first.pin, first.soPin, ["--token", first.label]);
      },
      remove: () => {
        rmSync(folder, { recursive: true, force: true });
      },
    };
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

/** Makes a protected AES key under a plain label, as an operator would with pkcs11-tool. @param id the CKA_ID in hex */
export function makePlainKey(token: TestToken, label: string, id: string): void {
  const key = ["--keygen", "--key-type", "AES:32", "--label", label, "--id", id];
  pkcs11Tool(token, ...key, "--private", "--sensitive");
}

/** Runs pkcs11-tool on the token with its user PIN, as an operator would. Returns its output. */
export function pkcs11Tool(token: TestToken, ...words: string[]): string {
  const login = ["--module", token.modulePath, "--token-label", token.label, "--login", "--pin", token.pin];
  return runTool("pkcs11-tool", [...login, ...words], "apt-get install opensc", token.env);
}

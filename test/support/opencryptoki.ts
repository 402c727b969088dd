// The software token of opencryptoki, behind its slot daemon. Its store is one fixed folder of the machine, so a token
// that somebody else has initialised is left alone.

import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";

import { startDaemon } from "./daemon.js";
import { findLibrary, makeFolder, runTool, writePinFile, type TestToken } from "./token.js";

const INSTALL = "apt-get install opencryptoki opensc";
const MODULES = [
  "/usr/lib/x86_64-linux-gnu/pkcs11/libopencryptoki.so",
  "/usr/lib/aarch64-linux-gnu/pkcs11/libopencryptoki.so",
  "/usr/lib64/pkcs11/libopencryptoki.so",
];
const LABEL = "kms-pkcs11-test";
const SLOT = "3";
/** The SO PIN of a new token. */
const FIRST_SO_PIN = "87654321";
const FIRST_PIN = "11112222";
const PIN = "33334444";

/** Initialises the token and starts the daemon. Throws if somebody else has initialised the token. */
export async function createOpencryptoki(): Promise<TestToken> {
  const modulePath = findLibrary("opencryptoki", MODULES, INSTALL);
  const folder = makeFolder("opencryptoki");
  const daemon = isServing()
    ? undefined
    : await startDaemon("pkcsslotd", ["-f"], { logFile: join(folder, "daemon.log"), isReady: isServing });
  const tool = (...args: string[]): string =>
    runTool("pkcs11-tool", ["--module", modulePath, "--slot", SLOT, ...args], INSTALL);
  requireOurs();
  const so = ["--so-pin", FIRST_SO_PIN];
  tool("--init-token", "--label", LABEL, ...so);
  tool("--login", "--login-type", "so", ...so, "--init-pin", "--new-pin", FIRST_PIN);
  tool("--login", "--pin", FIRST_PIN, "--change-pin", "--new-pin", PIN);
  return {
    modulePath,
    label: LABEL,
    pin: PIN,
    pinFile: writePinFile(folder, PIN),
    env: {},
    remove: () => {
      daemon?.kill("SIGTERM");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Returns what the library reports about the token; undefined while the daemon does not serve. */
function tokenInfo(): string | undefined {
  try {
    return execFileSync("pkcsconf", ["-t", "-c", SLOT], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  } catch {
    return undefined;
  }
}

function isServing(): boolean {
  return tokenInfo()?.includes("Label:") === true;
}

function requireOurs(): void {
  const info = tokenInfo() ?? "";
  if (!/TOKEN_INITIALIZED/.test(info) || new RegExp(`Label: ${LABEL}\\s`).test(info)) return;
  throw new Error(`opencryptoki's slot ${SLOT} holds a token of somebody else; this test would erase it`);
}

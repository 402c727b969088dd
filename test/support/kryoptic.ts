// Kryoptic, a token in software with an SQLite store, as scripts/test-tokens builds it.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { findLibrary, makeFolder, runTool, writePinFile, type TestToken } from "./token.js";

const RELEASE = fileURLToPath(new URL("../../build/tokens/kryoptic/release", import.meta.url));
/** Versions of cargo differ in where they leave the library of a dependency. */
const MODULES = [RELEASE, join(RELEASE, "deps")].map((folder) => join(folder, "libkryoptic_pkcs11.so"));
const SO_PIN = "87654321";
const PIN = "kryoptic-test-pin";

/** Makes a token with a PIN. */
export function createKryoptic(): TestToken {
  const modulePath = findLibrary("Kryoptic", MODULES, "run scripts/test-tokens kryoptic");
  const folder = makeFolder("kryoptic");
  const configuration = join(folder, "kryoptic.conf");
  writeFileSync(
    configuration,
    `[[slots]]\nslot = 1\ndbtype = "sqlite"\ndbargs = "${join(folder, "token.sql")}"\n`,
  );
  const env = { KRYOPTIC_CONF: configuration };
  const tool = (...args: string[]): string =>
    runTool("pkcs11-tool", ["--module", modulePath, ...args], "apt-get install opensc", env);
  tool("--init-token", "--slot", "1", "--label", "kms", "--so-pin", SO_PIN);
  tool("--login", "--login-type", "so", "--so-pin", SO_PIN, "--init-pin", "--new-pin", PIN);
  return {
    modulePath,
    label: "kms",
    pin: PIN,
    pinFile: writePinFile(folder, PIN),
    env,
    remove: () => {
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

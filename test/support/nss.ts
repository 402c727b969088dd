// NSS softokn as a token: a PKCS#11 library that behaves differently from SoftHSM (a string in C_Initialize, a fixed
// slot, a slow token key). It has no configuration file: `moduleParameters` contains everything.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { findLibrary, makeFolder, runTool, writePinFile, type TestToken } from "./token.js";

const INSTALL = "apt-get install libnss3 libnss3-tools";
const MODULES = [
  "/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
  "/usr/lib/aarch64-linux-gnu/libsoftokn3.so",
  "/usr/lib/x86_64-linux-gnu/nss/libsoftokn3.so",
  "/usr/lib64/libsoftokn3.so",
  "/usr/lib/libsoftokn3.so",
];

export interface NssOptions {
  readonly pin?: string;
}

/** A database with a PIN. Its token is always called "NSS Certificate DB". */
export interface Nss extends TestToken {
  readonly moduleParameters: string;
  readonly folder: string;
}

/** Makes a database with a PIN. */
export function createNss({ pin = "nss-test-pin" }: NssOptions = {}): Nss {
  const modulePath = findLibrary("NSS softokn", MODULES, INSTALL);
  const folder = makeFolder("nss");
  try {
    const pinLine = join(folder, "pin-line"); // certutil wants a line, with its end
    writeFileSync(pinLine, `${pin}\n`, { mode: 0o600 });
    runTool("certutil", ["-N", "-d", `sql:${folder}`, "-f", pinLine], INSTALL);
    return {
      modulePath,
      moduleParameters: `configdir='sql:${folder}' certPrefix='' keyPrefix='' secmod='secmod.db' flags=`,
      label: "NSS Certificate DB",
      pin,
      pinFile: writePinFile(folder, pin),
      env: {},
      folder,
      remove: () => {
        rmSync(folder, { recursive: true, force: true });
      },
    };
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

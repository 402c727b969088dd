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
  /** Switches the database to FIPS mode and uses the library's functions for it. */
  readonly fips?: boolean;
}

/** A database with a PIN. The library gives its token a fixed name. */
export interface Nss extends TestToken {
  readonly moduleParameters: string;
  readonly folder: string;
}

/** Makes a database with a PIN. FIPS mode requires one with digits, letters and other characters. */
export function createNss({ pin = "nss-test-pin-1", fips = false }: NssOptions = {}): Nss {
  const modulePath = findLibrary("NSS softokn", MODULES, INSTALL);
  const folder = makeFolder("nss");
  try {
    const pinLine = join(folder, "pin-line"); // certutil wants a line, with its end
    writeFileSync(pinLine, `${pin}\n`, { mode: 0o600 });
    runTool("certutil", ["-N", "-d", `sql:${folder}`, "-f", pinLine], INSTALL);
    if (fips) runTool("modutil", ["-dbdir", `sql:${folder}`, "-fips", "true", "-force"], INSTALL);
    return {
      modulePath,
      ...(fips && { moduleEntry: "FC_GetFunctionList" }),
      moduleParameters: `configdir='sql:${folder}' certPrefix='' keyPrefix='' secmod='secmod.db' flags=`,
      label: fips ? "NSS FIPS 140-2 Certificate DB" : "NSS Certificate DB",
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

// Yubico's PKCS#11 library over a mock YubiHSM 2, as scripts/test-tokens builds both.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { startDaemon } from "./daemon.js";
import { freePort } from "./free-port.js";
import { findLibrary, makeFolder, writePinFile, type TestToken } from "./token.js";

const BUILD = fileURLToPath(new URL("../../build/tokens/yubihsm2", import.meta.url));
const INSTALL = "run scripts/test-tokens yubihsm2";
/** The authentication key of a new device: its id in hex, and its password. */
const PIN = "0001password";

/** Starts a mock device; its token is always called "YubiHSM". */
export async function createYubiHsm(): Promise<TestToken & { readonly readAtLoad: boolean }> {
  const modulePath = findLibrary(
    "yubihsm_pkcs11",
    [join(BUILD, "library/pkcs11/yubihsm_pkcs11.so")],
    INSTALL,
  );
  const mock = findLibrary("yubihsm-mock", [join(BUILD, "mock/debug/yubihsm-mock")], INSTALL);
  const folder = makeFolder("yubihsm");
  const connector = `http://127.0.0.1:${await freePort()}`;
  const daemon = await startDaemon(mock, [new URL(connector).port], {
    logFile: join(folder, "mock.log"),
    isReady: () =>
      fetch(`${connector}/connector/status`).then(
        ({ ok }) => ok,
        () => false,
      ),
  });
  const configuration = join(folder, "yubihsm_pkcs11.conf");
  writeFileSync(configuration, `connector = ${connector}\n`);
  return {
    modulePath,
    readAtLoad: true,
    label: "YubiHSM",
    pin: PIN,
    pinFile: writePinFile(folder, PIN),
    env: { YUBIHSM_PKCS11_CONF: configuration, LD_LIBRARY_PATH: join(BUILD, "library/lib") },
    remove: () => {
      daemon.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

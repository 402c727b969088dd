// The life cycle on one real token, named by the variable TOKEN; started by scripts/test-tokens, which installs it.

import { readFileSync } from "node:fs";

import { createKryoptic } from "../support/kryoptic.js";
import { createNss } from "../support/nss.js";
import { createOpencryptoki } from "../support/opencryptoki.js";
import { P11KitRemote } from "../support/p11kit-remote.js";
import { createSoftHsm } from "../support/softhsm.js";
import { findLibrary } from "../support/token.js";
import { createTpm } from "../support/tpm.js";
import { createYubiHsm } from "../support/yubihsm.js";
import { describeLifeCycle, type LifeCycleToken } from "./life-cycle.js";

const PROXIES = ["/usr/lib/x86_64-linux-gnu/p11-kit-proxy.so", "/usr/lib/aarch64-linux-gnu/p11-kit-proxy.so"];

async function p11KitClient(): Promise<LifeCycleToken> {
  const softHsm = createSoftHsm();
  const remote = new P11KitRemote(softHsm);
  await remote.start();
  const remove = remote.remove.bind(remote);
  return Object.assign(remote, {
    remove: () => {
      remove();
      softHsm.remove();
    },
  });
}

/** SoftHSM among all modules that the machine's p11-kit configuration lists. */
function p11KitProxy(): LifeCycleToken {
  const modulePath = findLibrary("p11-kit-proxy", PROXIES, "apt-get install p11-kit p11-kit-modules");
  return { ...createSoftHsm(), modulePath };
}

/** The token that scripts/test-tokens was given by --module. */
function givenToken(): LifeCycleToken {
  const given = (name: string): string => process.env[`GIVEN_${name}`] ?? "";
  const pinFile = given("PIN_FILE");
  return {
    modulePath: given("MODULE"),
    ...(given("ENTRY") !== "" && { moduleEntry: given("ENTRY") }),
    ...(given("PARAMETERS") !== "" && { moduleParameters: given("PARAMETERS") }),
    label: given("TOKEN"),
    pin: readFileSync(pinFile, "utf8").trimEnd(),
    pinFile,
    env: {},
    // It may be; the life cycle then waits longer.
    readAtLoad: true,
    remove: () => undefined,
  };
}

const TOKENS: Readonly<Record<string, () => LifeCycleToken | Promise<LifeCycleToken>>> = {
  softhsm: () => createSoftHsm(),
  tpm2: createTpm,
  opencryptoki: createOpencryptoki,
  nss: () => createNss(),
  "nss-fips": () => createNss({ fips: true }),
  kryoptic: createKryoptic,
  yubihsm2: createYubiHsm,
  given: givenToken,
  "p11-kit-client": p11KitClient,
  "p11-kit-proxy": p11KitProxy,
};

/** After a token's name: its KEKs are RSA key pairs. */
const RSA = /-rsa$/;

const name = process.env["TOKEN"] ?? "";
const makeToken = TOKENS[name.replace(RSA, "")];
if (makeToken === undefined) {
  throw new Error(`TOKEN is "${name}"; give one of ${Object.keys(TOKENS).join(", ")}`);
}
describeLifeCycle(name, makeToken, RSA.test(name) ? ["--mechanism", "rsa-oaep"] : []);

// The PIN of a token that clusters share is changed on the token while the plugin runs. The old PIN costs one of the token's
// attempts, whatever asks for a login afterwards, and all clusters are served again once the PIN source has the new one.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterEach, beforeEach, expect, it } from "vitest";

import { ClustersPlugin, type ClusterSections } from "../support/clusters-plugin.js";
import { FaultModule } from "../support/fault-module.js";
import { childrenOf, createKek, kmsPkcs11 } from "../support/plugin-process.js";
import { createSoftHsm, pkcs11Tool, type SoftHsm } from "../support/softhsm.js";
import { runTool, tokenUri } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const LONG = { timeoutMs: 50_000, intervalMs: 50 };
const NAMES = ["alpha", "beta"];
const SEED = Buffer.alloc(32, 7);
const NEW_PIN = "87654321";
/** The token locks at the third wrong PIN in a row. */
const ATTEMPTS = 3;

let token: SoftHsm;
let front: FaultModule;
let kms: ClustersPlugin;

beforeEach(async () => {
  token = createSoftHsm();
  for (const name of NAMES) createKek(token, name);
  front = new FaultModule(token);
  countPins();
  kms = await ClustersPlugin.on(front);
});
afterEach(async () => {
  await kms.remove();
  front.remove();
  token.remove();
});

const countPins = (): void => {
  front.set(`pin-counter ${ATTEMPTS} ${front.path("wrong-pins")}`);
};
const wrongPins = (): number => Number(readFileSync(front.path("wrong-pins"), "utf8") || "0");
const hosts = (): number[] => childrenOf(kms.plugin.pid ?? 0);
const status = async (name: string): Promise<number> => (await kms.get(`/readyz?cluster=${name}`)).status;

/** Every request reaches the token. */
async function start(perToken: number, beta: ClusterSections = {}, tokens = 1): Promise<void> {
  kms.configure({ alpha: {}, beta }, { hsm: { hosts: perToken }, cache: { entries: 0 } });
  await kms.start(...NAMES);
  const count = perToken * tokens;
  await waitFor(() => hosts().length === count, { ...LONG, what: `${count} token hosts` });
}

/** The PIN is changed by the token's tool, as a security team would; logins that exist stay as they are. */
const changePin = (): void => {
  pkcs11Tool(token, "--change-pin", "--new-pin", NEW_PIN);
};

/** Ends every token host, as a crash of the library would. */
const endHosts = (): void => {
  for (const pid of hosts()) process.kill(pid, "SIGKILL");
};

const enterNewPin = (): void => {
  writeFileSync(token.pinFile, NEW_PIN);
};

function serialOf({ modulePath, env }: SoftHsm): string {
  const slots = runTool(
    "pkcs11-tool",
    ["--module", modulePath, "--list-slots"],
    "apt-get install opensc",
    env,
  );
  return /serial num\s*:\s*(\S+)/.exec(slots)?.[1] ?? "";
}

async function expectServed(): Promise<void> {
  for (const name of NAMES) {
    const sealed = await kms.client(name).encrypt(SEED, "pin");
    expect(await kms.client(name).decrypt(sealed, "pin")).toEqual(SEED);
  }
}

async function expectServedAgain(): Promise<void> {
  for (const name of NAMES) {
    await waitFor(async () => (await status(name)) === 200, { ...LONG, what: `${name} to be ready` });
  }
  await expectServed();
  expect(wrongPins()).toBe(0);
}

/** Waits until the requests of both clusters fail because of the PIN, as their findings say, and sends more of them. */
async function expectRefused(): Promise<void> {
  for (const name of NAMES) {
    const failure = (): Promise<string> =>
      kms
        .client(name)
        .encrypt(SEED, "refused")
        .then(() => "", String);
    const isRefused = async (): Promise<boolean> => (await failure()).includes("PIN");
    await waitFor(isRefused, { ...LONG, what: `requests of ${name} to fail because of the PIN` });
    for (let request = 0; request < 5; request++) expect(await failure()).toContain("PIN");
    const reported = async (): Promise<boolean> => {
      const { status: code, text } = await kms.get(`/readyz?cluster=${name}`);
      return code === 503 && text.includes("PIN");
    };
    await waitFor(reported, { ...LONG, what: `the refused PIN in the findings of ${name}` });
  }
}

/** The token gets another PIN, every login is lost, and the old PIN is refused. */
async function changePinAndLoseLogins(): Promise<void> {
  changePin();
  endHosts();
  await expectRefused();
}

it("the old PIN costs one attempt for all clusters, which are served again with the new one", async () => {
  await start(1);
  changePin();
  await expectServed();
  endHosts();
  await expectRefused();
  expect(wrongPins()).toBe(1);
  enterNewPin();
  await expectServedAgain();
});

it("no cluster notices a changed PIN while a token host is logged in", async () => {
  await start(2);
  changePin();
  const [, warm] = hosts();
  process.kill(warm ?? NaN, "SIGKILL");
  await waitFor(() => wrongPins() === 1, { ...LONG, what: "the refusal of the old PIN" });
  await expectServed();
  for (const name of NAMES) expect(await status(name)).toBe(200);
  enterNewPin();
  await waitFor(() => wrongPins() === 0, { ...LONG, what: "a login with the new PIN" });
  await expectServed();
});

it("neither a restart, a reload nor a command repeats the login with the old PIN", async () => {
  await start(1);
  await changePinAndLoseLogins();
  await kms.reload();
  const list = kmsPkcs11(["keys", "list", "--config", kms.plugin.configFile, "--cluster", "beta"], front.env);
  expect([list.code, list.stderr]).toEqual([expect.any(Number), expect.stringContaining("not tried again")]);
  expect(list.code).not.toBe(0);
  await kms.plugin.stop();
  kms.plugin.launch();
  await expectRefused();
  expect(wrongPins()).toBe(1);
  enterNewPin();
  await expectServedAgain();
});

it("clusters that name one token in different ways spend one attempt between them", async () => {
  const serial = serialOf(token);
  const bySerial = tokenUri(front, "beta").replace("token=kms", `serial=${serial}`);
  await start(1, { keys: { uri: bySerial } }, 2);
  await changePinAndLoseLogins();
  expect(wrongPins()).toBe(1);
  enterNewPin();
  await expectServedAgain();
});

it("a PIN source that is replaced by a reload has all clusters of the token served again", async () => {
  await start(1);
  await changePinAndLoseLogins();
  const pinFile = join(kms.plugin.folder, "new-pin");
  writeFileSync(pinFile, NEW_PIN, { mode: 0o600 });
  const withPin = (name: string): ClusterSections => ({
    keys: { uri: tokenUri({ ...token, pinFile }, name, front.modulePath) },
  });
  kms.configure(
    { alpha: withPin("alpha"), beta: withPin("beta") },
    { hsm: { hosts: 1 }, cache: { entries: 0 } },
  );
  await kms.reload();
  await expectServedAgain();
});

it("a new PIN that was entered before the token had it is used once its refusal is removed", async () => {
  await start(1);
  enterNewPin();
  endHosts();
  await expectRefused();
  changePin();
  expect(wrongPins()).toBe(1);
  rmSync(join(kms.plugin.stateDir, "pin-refused.json"));
  await expectServedAgain();
});

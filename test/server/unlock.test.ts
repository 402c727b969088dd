// A plugin process whose PIN is not on a disk: it starts locked, and an operator unlocks it with the command.

import { rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";

import { KmsClient } from "../../src/kms-client/kms-client.js";
import { FaultModule } from "../support/fault-module.js";
import { freePort } from "../support/free-port.js";
import { runCommand } from "../support/command.js";
import { createKek, PluginProcess, type CommandResult } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { waitFor } from "../support/wait.js";

const HOSTS = 2;

let softHsm: SoftHsm;
let fault: FaultModule;
let plugin: PluginProcess;
let socket: string;
let port: number;
let client: KmsClient;

beforeAll(async () => {
  softHsm = createSoftHsm({ pin: "müller-1234" });
  fault = new FaultModule(softHsm);
  createKek(fault);
  plugin = new PluginProcess(fault);
  socket = join(plugin.folder, "run", "unlock.sock");
  port = await freePort();
  const uri = `pkcs11:token=${softHsm.label};object=kms-kek?module-path=${fault.modulePath}`;
  plugin.configure({
    keys: { uri },
    pin: { unlock: socket },
    hsm: { hosts: HOSTS },
    http: { address: `127.0.0.1:${port}` },
  });
  client = new KmsClient(plugin.socket);
  plugin.launch();
  await waitFor(() => statSync(socket, { throwIfNoEntry: false })?.isSocket() === true);
});

afterEach(() => {
  fault.clear();
});

afterAll(async () => {
  client.close();
  await plugin.stop();
  plugin.remove();
  fault.remove();
  softHsm.remove();
});

const statusText = (): Promise<string> => client.status().then(({ healthz }) => healthz, String);
const allHostsReady = (): Promise<boolean> =>
  waitFor(
    async () => {
      const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
      return metrics.includes(`kms_pkcs11_token_hosts ${HOSTS}\n`);
    },
    { what: "all token hosts" },
  );
const logins = (): number => fault.calls("C_Login");
const matching = (pattern: RegExp): string => expect.stringMatching(pattern) as string;

const unlock = (pin: string, ...options: string[]): Promise<CommandResult> =>
  runCommand(["unlock", "--socket", socket, ...options], {}, pin);

describe("a locked plugin", () => {
  beforeEach(() => waitFor(async () => /run kms-pkcs11 unlock --socket/.test(await statusText())));

  it("spends no PIN attempt on a PIN that is empty or has several lines", async () => {
    const before = logins();
    expect(await unlock("")).toMatchObject({ code: 1, stdout: matching(/is empty/) });
    expect(await unlock("two\nlines")).toMatchObject({ code: 1, stdout: matching(/several lines/) });
    expect(logins()).toBe(before);
  });

  it("spends one PIN attempt on a wrong PIN", async () => {
    const before = logins();
    const { code, stdout } = await unlock("wrong", "--output", "json");
    expect([code, JSON.parse(stdout)]).toEqual([1, { unlocked: false, message: matching(/PIN/) }]);
    expect(logins()).toBe(before + 1);
  });

  it("accepts the longest PIN including its line break", async () => {
    expect(await unlock(`${"x".repeat(255)}\r\n`)).toMatchObject({ code: 1, stderr: "" });
  });
});

it("the right PIN unlocks the plugin and appears in no log", async () => {
  expect(await unlock(`${softHsm.pin}\n`)).toMatchObject({ code: 0, stderr: "" });
  await waitFor(async () => (await statusText()) === "ok");
  expect(plugin.log).not.toContain(softHsm.pin);
});

describe("a plugin that has been unlocked", () => {
  const encrypt = (): Promise<unknown> => waitFor(() => client.encrypt(Buffer.from("seed"), "u"));
  const crashHosts = (...files: string[]): void => {
    fault.set(...files.map((file) => `C_Encrypt segv once=${fault.path(file)}`));
  };

  beforeEach(async () => {
    if ((await statusText()) !== "ok") expect((await unlock(softHsm.pin)).code).toBe(0);
    await allHostsReady();
    await waitFor(async () => (await statusText()) === "ok");
  });

  it("keeps its PIN when another one is passed, which costs no PIN attempt", async () => {
    const before = logins();
    expect(await unlock("other")).toMatchObject({ code: 0, stdout: matching(/logged in already/) });
    expect(logins()).toBe(before);
  });

  it("logs in again with its PIN when token hosts are replaced", async () => {
    const before = logins();
    crashHosts("first", "second");
    await encrypt();
    await waitFor(() => logins() >= before + HOSTS);
    fault.clear();
    await allHostsReady();
    await waitFor(async () => (await statusText()) === "ok");
  });

  it("keeps its PIN when a wrong one is passed while a token host is replaced", async () => {
    const from = plugin.log.length;
    const failedStarts = (): number => plugin.log.slice(from).split('"cause":"start"').length - 1;
    // The next start fails before it logs in, until this rule is cleared.
    fault.set("C_Initialize rv 0x30", `C_Encrypt segv once=${fault.path("third")}`);
    await encrypt();
    await waitFor(() => failedStarts() > 0);
    const before = logins();
    const answer = unlock("wrong too");
    const failed = failedStarts();
    await waitFor(() => failedStarts() > failed);
    fault.clear();
    expect(await answer).toMatchObject({
      code: 1,
      stdout: matching(/CKR_PIN_INCORRECT.*pass the right PIN with.*stays logged in/),
    });
    // One attempt for the wrong PIN; then the PIN in use logs in.
    await waitFor(() => logins() === before + 2);
    await waitFor(async () => (await statusText()) === "ok");
    expect((await unlock("wrong too")).stdout).toMatch(/logged in already|not tried again/);
    expect(logins()).toBe(before + 2);
  });
});

it("/readyz reports a replaced unlock socket and stays ready", async () => {
  const readyz = async (): Promise<readonly [number, string]> => {
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`);
    return [answer.status, await answer.text()];
  };
  await waitFor(async () => (await readyz())[0] === 200);
  rmSync(socket);
  writeFileSync(socket, "");
  expect(await readyz()).toEqual([200, matching(/^ok\n.*unlock\.sock: no operator can submit a PIN/)]);
});

// A plugin process whose PIN is not on a disk: it starts locked, and an operator unlocks it with the command.

import { rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { beforeAll, beforeEach, describe, expect, it } from "vitest";

import { runCommand } from "../support/command.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { createKek, type CommandResult } from "../support/plugin-process.js";
import { waitFor } from "../support/wait.js";

const HOSTS = 2;

let socket: string;
const kms = usePlugin(
  ({ token, fault, plugin }) => {
    socket = join(plugin.folder, "run", "unlock.sock");
    const uri = `pkcs11:token=${token.label};object=kms-kek?module-path=${fault.modulePath}`;
    return { keys: { uri }, pin: { unlock: socket }, hsm: { hosts: HOSTS } };
  },
  {
    token: { pin: "müller-1234", faults: [] },
    start: false,
    prepare: ({ fault }) => {
      createKek(fault);
    },
  },
);

beforeAll(async () => {
  kms.plugin.launch();
  await waitFor(() => statSync(socket, { throwIfNoEntry: false })?.isSocket() === true);
});

const statusText = (): Promise<string> => kms.client.status().then(({ healthz }) => healthz, String);
const allHostsReady = (): Promise<boolean> =>
  waitFor(async () => (await kms.own.metric("token_hosts")) === HOSTS, { what: "all token hosts" });
const logins = (): number => kms.fault.calls("C_Login");
const matching = (pattern: RegExp): string => expect.stringMatching(pattern) as string;

const unlock = (pin: string, ...options: string[]): Promise<CommandResult> =>
  runCommand(["unlock", "--socket", socket, ...options], {}, pin);

describe("a locked plugin", () => {
  beforeEach(() => waitFor(async () => /run kms-pkcs11 unlock --socket/.test(await statusText())));

  it("a locked plugin spends no PIN attempt on a PIN that is empty or has several lines", async () => {
    const before = logins();
    expect(await unlock("")).toMatchObject({ code: 1, stdout: matching(/is empty/) });
    expect(await unlock("two\nlines")).toMatchObject({ code: 1, stdout: matching(/several lines/) });
    expect(logins()).toBe(before);
  });

  it("a locked plugin spends one PIN attempt on a wrong PIN", async () => {
    const before = logins();
    const { code, stdout } = await unlock("wrong", "--output", "json");
    expect([code, JSON.parse(stdout)]).toEqual([
      1,
      { unlocked: false, next: null, message: matching(/PIN/) },
    ]);
    expect(logins()).toBe(before + 1);
  });

  it("a locked plugin accepts the longest PIN including its line break", async () => {
    expect(await unlock(`${"x".repeat(255)}\r\n`)).toMatchObject({ code: 1, stderr: "" });
  });
});

it("the right PIN unlocks the plugin and appears in no log", async () => {
  expect(await unlock(`${kms.token.pin}\n`)).toMatchObject({
    code: 0,
    stderr: expect.stringMatching(/^next: [^\n]+\n$/) as unknown,
  });
  await waitFor(async () => (await statusText()) === "ok");
  expect(kms.plugin.log).not.toContain(kms.token.pin);
});

describe("a plugin that has been unlocked", () => {
  const encrypt = (): Promise<unknown> => waitFor(() => kms.client.encrypt(Buffer.from("seed"), "u"));
  const crashHosts = (...files: string[]): void => {
    kms.fault.set(...files.map((file) => `C_Encrypt segv once=${kms.fault.path(file)}`));
  };

  beforeEach(async () => {
    if ((await statusText()) !== "ok") expect((await unlock(kms.token.pin)).code).toBe(0);
    await allHostsReady();
    await waitFor(async () => (await statusText()) === "ok");
  });

  it("an unlocked plugin keeps its PIN when another one is passed, which costs no PIN attempt", async () => {
    const before = logins();
    expect(await unlock("other")).toMatchObject({ code: 0, stdout: matching(/logged in already/) });
    expect(logins()).toBe(before);
  });

  it("an unlocked plugin logs in again with its PIN when token hosts are replaced", async () => {
    const before = logins();
    crashHosts("first", "second");
    await encrypt();
    await waitFor(() => logins() >= before + HOSTS);
    kms.fault.clear();
    await allHostsReady();
    await waitFor(async () => (await statusText()) === "ok");
  });

  it("an unlocked plugin keeps its PIN if a wrong one comes while a token host is replaced", async () => {
    const from = kms.plugin.log.length;
    const failedStarts = (): number => kms.plugin.log.slice(from).split('"cause":"start"').length - 1;
    // The next start fails before it logs in, until this rule is cleared.
    kms.fault.set("C_Initialize rv 0x30", `C_Encrypt segv once=${kms.fault.path("third")}`);
    await encrypt();
    await waitFor(() => failedStarts() > 0);
    const before = logins();
    const answer = unlock("wrong too");
    const failed = failedStarts();
    await waitFor(() => failedStarts() > failed);
    kms.fault.clear();
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
    const answer = await kms.own.get("/readyz");
    return [answer.status, await answer.text()];
  };
  await waitFor(async () => (await readyz())[0] === 200);
  rmSync(socket);
  writeFileSync(socket, "");
  expect(await readyz()).toEqual([200, matching(/^ok\n.*unlock\.sock: no operator can submit a PIN/)]);
});

// A plugin whose PIN is on no disk: it starts locked, says what to do, is unlocked by the command, and a wrong PIN costs
// one attempt.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, rmSync, statSync, symlinkSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";

import { KmsClient } from "../../src/kms-client/kms-client.js";
import { FaultModule } from "../support/fault-module.js";
import { createKek, PluginProcess, type CommandResult } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { makeFolder } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const MAIN = fileURLToPath(new URL("../../dist/main.js", import.meta.url));
const LIMIT = { timeoutMs: 20_000, intervalMs: 50 };

let softHsm: SoftHsm;
let fault: FaultModule;
let plugin: PluginProcess;
let socket: string;
let client: KmsClient;

beforeAll(() => {
  softHsm = createSoftHsm({ pin: "müller-1234" });
  fault = new FaultModule(softHsm);
  createKek(fault);
});

beforeEach(async () => {
  plugin = new PluginProcess(fault);
  socket = join(plugin.folder, "run", "unlock.sock");
  const uri = `pkcs11:token=${softHsm.label};object=kms-kek?module-path=${fault.modulePath}`;
  plugin.configure({ keys: { uri }, pin: { unlock: socket } });
  client = new KmsClient(plugin.socket);
  plugin.launch();
  await waitFor(() => statSync(socket, { throwIfNoEntry: false })?.isSocket() === true, LIMIT);
});

afterEach(async () => {
  client.close();
  await plugin.stop();
  plugin.remove();
});

afterAll(() => {
  fault.remove();
  softHsm.remove();
});

const statusText = (): Promise<string> => client.status().then(({ healthz }) => healthz, String);

/** While this process listens. */
async function unlockAt(path: string, pin: string): Promise<CommandResult> {
  const child = spawn(process.execPath, [MAIN, "unlock", "--socket", path]);
  child.stdin.on("error", () => undefined).end(pin);
  const exited = once(child, "exit");
  const [stdout, stderr] = [await text(child.stdout), await text(child.stderr)];
  await exited;
  return { code: child.exitCode, stdout, stderr };
}

function unlock(pin: string, ...options: string[]): CommandResult {
  const args = [MAIN, "unlock", "--socket", socket, ...options];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { input: pin, encoding: "utf8" });
  return { code: status, stdout, stderr };
}

it("is locked after its start, and unlocked by the PIN, which is shown nowhere", async () => {
  await waitFor(async () => /run kms-pkcs11 unlock --socket/.test(await statusText()), LIMIT);
  expect(statSync(socket).mode & 0o777).toBe(0o600);
  expect(unlock(`${softHsm.pin}\n`)).toEqual({ code: 0, stdout: "the token is logged in\n", stderr: "" });
  await waitFor(async () => (await statusText()) === "ok", LIMIT);
  expect(plugin.log).not.toContain(softHsm.pin);
});

it("goes on by itself when a token host is replaced", async () => {
  expect(unlock(softHsm.pin).code).toBe(0);
  await waitFor(async () => (await statusText()) === "ok", LIMIT);
  const before = fault.calls("C_Login");
  fault.set(`C_Encrypt segv once=${fault.path("first")}`, `C_Encrypt segv once=${fault.path("second")}`);
  await waitFor(() => client.encrypt(Buffer.from("seed"), "after"), LIMIT);
  await waitFor(() => fault.calls("C_Login") > before, LIMIT);
  fault.clear();
  expect(await statusText()).toBe("ok");
});

it("spends one attempt on a wrong PIN, and none on what cannot be one", async () => {
  await waitFor(async () => /unlock/.test(await statusText()), LIMIT);
  const before = fault.calls("C_Login");
  expect(unlock("")).toMatchObject({ code: 1, stdout: expect.stringMatching(/is empty/) as string });
  expect(unlock("two\nlines")).toMatchObject({
    code: 1,
    stdout: expect.stringMatching(/several lines/) as string,
  });
  expect(fault.calls("C_Login")).toBe(before);
  const wrong = unlock("wrong", "--output", "json");
  expect(JSON.parse(wrong.stdout)).toMatchObject({
    unlocked: false,
    message: expect.stringMatching(/PIN/) as string,
  });
  expect(wrong.code).toBe(1);
  expect(fault.calls("C_Login")).toBe(before + 1);
  expect(unlock(softHsm.pin).code).toBe(0);
  await waitFor(async () => (await statusText()) === "ok", LIMIT);
});

it("keeps the PIN that has logged in when another is handed over, which costs no attempt", async () => {
  expect(unlock(softHsm.pin).code).toBe(0);
  await waitFor(() => plugin.log.split('"token host ready"').length === 3, LIMIT);
  const before = fault.calls("C_Login");
  expect(unlock("wrong")).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/logged in already/) as string,
  });
  expect(fault.calls("C_Login")).toBe(before);
  fault.set(`C_Encrypt segv once=${fault.path("third")}`, `C_Encrypt segv once=${fault.path("fourth")}`);
  await waitFor(() => client.encrypt(Buffer.from("seed"), "kept"), LIMIT);
  await waitFor(() => fault.calls("C_Login") >= before + 2, LIMIT);
  fault.clear();
  await waitFor(async () => (await statusText()) === "ok", LIMIT);
});

it("keeps the PIN in use when a wrong one is handed over while a token host is replaced", async () => {
  expect(unlock(softHsm.pin).code).toBe(0);
  await waitFor(() => plugin.log.split('"token host ready"').length === 3, LIMIT);
  // The next start fails before it logs in, until this rule goes.
  fault.set("C_Initialize rv 0x30", `C_Encrypt segv once=${fault.path("fifth")}`);
  await waitFor(() => client.encrypt(Buffer.from("seed"), "replaced"), LIMIT);
  await waitFor(() => plugin.log.includes('"token host ended"'), LIMIT);
  const before = fault.calls("C_Login");
  const answer = unlockAt(socket, "wrong");
  await waitFor(() => plugin.log.split('"cause":"start"').length > 2, LIMIT);
  fault.clear();
  expect(await answer).toMatchObject({
    code: 1,
    stdout: expect.stringMatching(/CKR_PIN_INCORRECT.*pass the right PIN with.*stays logged in/) as string,
  });
  // One attempt for the wrong one; then the PIN in use logs in.
  await waitFor(() => fault.calls("C_Login") === before + 2, LIMIT);
  await waitFor(async () => (await statusText()) === "ok", LIMIT);
  expect(unlock("wrong").stdout).toMatch(/logged in already|not tried again/);
  expect(fault.calls("C_Login")).toBe(before + 2);
});

it("cuts off who sends without end, and goes on", async () => {
  const flood = connect(socket);
  const closed = new Promise((resolve) => flood.once("close", resolve));
  flood.on("error", () => undefined);
  flood.write(Buffer.alloc(4_096, "x"));
  await closed;
  expect(unlock(softHsm.pin).code).toBe(0);
});

it("takes the longest PIN with its line break for one, and tells the operator of one that is too long", () => {
  expect(unlock(`${"x".repeat(255)}\r\n`)).toMatchObject({ code: 1, stderr: "" });
  expect(unlock("x".repeat(258))).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/too long/) as string,
  });
});

it("gives the PIN to nobody in a folder of everybody, and to no link", async () => {
  const received: string[] = [];
  const peers: Socket[] = [];
  const listener = createServer({ allowHalfOpen: true }, (peer) => {
    peers.push(peer);
    peer.on("error", () => undefined).on("data", (chunk) => received.push(String(chunk)));
  });
  const trap = join(makeFolder("everybody"), "unlock.sock");
  await new Promise<void>((resolve) => listener.listen(trap, resolve));
  const link = join(plugin.folder, "link.sock");
  symlinkSync(trap, link);
  chmodSync(dirname(trap), 0o1777);
  try {
    for (const [path, reason] of [
      [trap, /can be written to by others/],
      [link, /is no socket/],
    ] as const) {
      const refused = await unlockAt(path, "1234");
      expect(refused).toEqual({ code: 2, stdout: "", stderr: expect.stringMatching(reason) as string });
    }
    expect(received).toEqual([]);
    if (process.getuid?.() !== 0) return;
    // Root cannot know the plugin's user; it says whom the PIN goes to.
    chmodSync(dirname(trap), 0o700);
    chownSync(dirname(trap), 4242, 4242);
    const given = unlockAt(trap, "1234");
    await waitFor(() => received.length > 0, LIMIT);
    for (const peer of peers) peer.end('{"unlocked":true,"message":"taken"}');
    expect((await given).stderr).toMatch(/the PIN goes to a process of user 4242/);
  } finally {
    listener.close();
    rmSync(dirname(trap), { recursive: true });
  }
});

it("says that what answers without end, or in another form, is no plugin", async () => {
  const place = join(plugin.folder, "other.sock");
  for (const answer of ["[]", '{"unlocked":"yes"}', "x".repeat(1 << 20)]) {
    const listener = createServer((peer) =>
      peer
        .on("error", () => undefined)
        .resume()
        .end(answer),
    );
    await new Promise<void>((resolve) => listener.listen(place, resolve));
    expect(await unlockAt(place, "1234")).toMatchObject({ code: 3, stdout: "" });
    await new Promise((resolve) => listener.close(resolve));
  }
});

it("says that there is no plugin", async () => {
  await plugin.stop();
  expect(unlock(softHsm.pin)).toMatchObject({ code: 3, stdout: "" });
});

// If commands cannot read the configured PIN, the operator enters it on a terminal or sends it on standard input.
// Counts the PIN attempts of several commands and of wrong PINs.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";

import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";

import { runCommand } from "../support/command.js";
import { createKek, MAIN, type CommandResult } from "../support/plugin-process.js";
import { onTerminal as runOnTerminal } from "../support/terminal.js";
import { useToken } from "../support/token-fixture.js";
import { makeFolder } from "../support/token.js";

const PIN = "pässword-1234";
const hsm = useToken({ pin: PIN, faults: [] });
let folder: string;
let stateDir: string;
let uri: string;

beforeAll(() => {
  createKek(hsm.fault);
  uri = `pkcs11:token=${hsm.token.label};object=kms-kek?module-path=${hsm.fault.modulePath}`;
});

beforeEach(() => {
  folder = makeFolder("operator-pin");
  stateDir = join(folder, "state");
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const logins = (): number => hsm.fault.calls("C_Login");
const withUnlock = (): string => `${uri}&pin-source=unlock:${join(folder, "unlock.sock")}`;

/** Runs a command as a process, so that several can run at the same time. */
function start(args: readonly string[], input: string | Buffer): Promise<CommandResult> {
  const child = spawn(process.execPath, [MAIN, ...args, "--state-dir", stateDir], {
    env: { ...process.env, ...hsm.fault.env },
  });
  child.stdin.on("error", () => undefined).end(input);
  const ended = once(child, "exit");
  return Promise.all([text(child.stdout), text(child.stderr), ended]).then(([stdout, stderr]) => ({
    code: child.exitCode,
    stdout,
    stderr,
  }));
}

const run = (input: string | Buffer, ...args: string[]): Promise<CommandResult> =>
  runCommand([...args, "--state-dir", stateDir], hsm.fault.env, input);

/** Runs a command on a terminal and types `answer` when `prompt` appears. */
const onTerminal = (prompt: string, answer: string, ...args: string[]): Promise<CommandResult> =>
  runOnTerminal({ prompt, answer }, args, hsm.fault.env);

describe("--pin-stdin", () => {
  it("--pin-stdin logs in if the PIN source is an unlock socket or none", async () => {
    for (const key of [withUnlock(), uri]) {
      const listed = await run(`${PIN}\n`, "keys", "list", "--key", key, "--pin-stdin", "-o", "json");
      expect(listed).toMatchObject({ code: 0, stderr: "" });
      expect(listed.stdout).toContain("kms-kek@");
    }
    const checked = await run(PIN, "check", "--key", withUnlock(), "--pin-stdin");
    expect(checked.stdout).not.toMatch(/^fail /m);
    expect(checked.code).toBe(0);
  });

  it("--pin-stdin is suggested if there is no terminal to prompt on", async () => {
    const before = logins();
    for (const key of [withUnlock(), uri]) {
      const refused = await run("", "keys", "list", "--key", key);
      expect(refused).toMatchObject({ code: 2, stderr: expect.stringMatching(/--pin-stdin/) as string });
    }
    expect(logins()).toBe(before);
  });

  it("--pin-stdin replaces a PIN source that cannot be read", async () => {
    const file = `${uri}&pin-source=credential:pin`;
    expect(await run(PIN, "keys", "list", "--key", file, "--pin-stdin")).toMatchObject({ code: 0 });
  });

  it("--pin-stdin spends no PIN attempt on input that cannot be a PIN", async () => {
    const before = logins();
    for (const bytes of ["", "\n", `\u{feff}${PIN}`, `${PIN}\0`, `${PIN}\n${PIN}\n`, "x".repeat(300)]) {
      expect((await run(bytes, "keys", "list", "--key", uri, "--pin-stdin")).code).toBe(2);
    }
    expect((await run(Buffer.from(PIN, "utf16le"), "keys", "list", "--key", uri, "--pin-stdin")).code).toBe(
      2,
    );
    expect(logins()).toBe(before);
  });

  it("a wrong PIN costs one PIN attempt, however many commands try it", async () => {
    hsm.fault.set("C_Login sleep 200");
    const before = logins();
    const list = (): Promise<CommandResult> => start(["keys", "list", "--key", uri, "--pin-stdin"], "wrong");
    for (const { code, stderr } of await Promise.all([list(), list(), list(), list()])) {
      expect(code).toBe(1);
      expect(stderr).toMatch(/run the command again with the right PIN/);
      expect(stderr).not.toContain("wrong-");
    }
    expect((await list()).code).toBe(1);
    expect(logins() - before).toBe(1);
    expect((await run(PIN, "keys", "list", "--key", uri, "--pin-stdin")).code).toBe(0);
  });
});

describe("on a terminal", () => {
  it.each([
    ["an unlock socket", withUnlock],
    ["no source", () => uri],
  ])("a command prompts without echo for a PIN that comes from %s", async (_what, key) => {
    const { code, stdout } = await onTerminal("PIN of token", `${PIN}\r`, "keys", "list", "--key", key());
    expect(stdout).toContain("kms-kek@");
    expect(stdout).not.toContain(PIN);
    expect(code).toBe(0);
  });

  it("Ctrl-C at the prompt ends the command without a PIN attempt", async () => {
    const before = logins();
    const { code } = await onTerminal("PIN of token", "\u0003", "keys", "list", "--key", withUnlock());
    expect(code).toBe(130);
    expect(logins()).toBe(before);
  });

  it("unlock prompts only if something listens on the socket", async () => {
    const path = join(folder, "unlock.sock");
    const nobody = await onTerminal("PIN:", `${PIN}\r`, "unlock", "--socket", path);
    expect(nobody.code).toBe(3);
    expect(nobody.stdout).not.toContain("PIN:");
    // The socket of a process that has died.
    spawnSync(process.execPath, [
      "-e",
      `require("node:net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`,
    ]);
    const stale = await onTerminal("PIN:", `${PIN}\r`, "unlock", "--socket", path);
    expect(stale.code).toBe(3);
    expect(stale.stdout).not.toContain("PIN:");
    rmSync(path);
    const server = createServer((peer) =>
      peer
        .on("error", () => undefined)
        .resume()
        .end("{}"),
    );
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const other = await onTerminal("PIN:", `${PIN}\r`, "unlock", "--socket", path);
    server.close();
    expect(other.stdout).toContain("PIN:");
    expect(other.code).toBe(3);
  });
});

// `kms-pkcs11 unlock` and sockets that are not the plugin's: it sends the PIN to no other process, and reports what is
// wrong.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, rmSync, symlinkSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { MAIN, type CommandResult } from "../support/plugin-process.js";
import { makeFolder } from "../support/token.js";
import { waitFor } from "../support/wait.js";

let folder: string;
let path: string;
let listener: Server | undefined;

beforeEach(() => {
  folder = makeFolder("unlock");
  path = join(folder, "unlock.sock");
});

afterEach(() => {
  listener?.close();
  listener = undefined;
  rmSync(folder, { recursive: true, force: true });
});

const listen = async (onPeer: (peer: Socket) => void): Promise<void> => {
  const server = createServer({ allowHalfOpen: true }, (peer) => {
    onPeer(peer.on("error", () => undefined));
  });
  listener = server;
  await new Promise<void>((resolve) => server.listen(path, resolve));
};

async function unlock(pin: string, socket = path): Promise<CommandResult> {
  const child = spawn(process.execPath, [MAIN, "unlock", "--socket", socket]);
  child.stdin.on("error", () => undefined).end(pin);
  const exited = once(child, "exit");
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  await exited;
  return { code: child.exitCode, stdout, stderr };
}

describe("a socket that another user may have made", () => {
  const received: string[] = [];
  const peers: Socket[] = [];

  beforeEach(async () => {
    received.length = peers.length = 0;
    await listen((peer) => {
      peers.push(peer.on("data", (chunk) => received.push(String(chunk))));
    });
  });

  it("unlock sends no PIN to a socket in a folder that others can write to", async () => {
    chmodSync(folder, 0o1777);
    const stderr = expect.stringMatching(/can be written by others/) as string;
    expect(await unlock("1234")).toEqual({ code: 2, stdout: "", stderr });
    expect(received).toEqual([]);
  });

  it("unlock sends no PIN through a symbolic link", async () => {
    const link = join(folder, "link.sock");
    symlinkSync(path, link);
    const stderr = expect.stringMatching(/socket; give the plugin's pin\.unlock/) as string;
    expect(await unlock("1234", link)).toEqual({ code: 2, stdout: "", stderr });
    expect(received).toEqual([]);
  });

  it.runIf(process.getuid?.() === 0)("unlock as root reports which user receives the PIN", async () => {
    chownSync(folder, 4242, 4242);
    const given = unlock("1234");
    await waitFor(() => received.length > 0);
    for (const peer of peers) peer.end('{"unlocked":true,"message":"taken"}');
    expect((await given).stderr).toMatch(/sending the PIN to a process of user 4242/);
  });
});

describe("a peer that is not a plugin", () => {
  it.each([
    ["another JSON document", "[]"],
    ["a field of another type", '{"unlocked":"yes"}'],
    ["a response without end", "x".repeat(1 << 20)],
  ])("a peer that is not a plugin is reported for %s", async (_what, answer) => {
    await listen((peer) => peer.resume().end(answer));
    expect(await unlock("1234")).toMatchObject({ code: 3, stdout: "" });
  });

  it("unlock reports a socket on which nothing listens", async () => {
    expect(await unlock("1234")).toMatchObject({ code: 3, stdout: "" });
  });
});

it("unlock refuses a PIN that is too long before it sends anything", async () => {
  const received: string[] = [];
  await listen((peer) => peer.on("data", (chunk) => received.push(String(chunk))));
  expect(await unlock("x".repeat(258))).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/too long/) as string,
  });
  expect(received).toEqual([]);
});

// The plugin's side of a token host, tested with processes that are not token hosts: replies that cannot be parsed,
// output on standard error, and a process that the kernel does not release.

import { ChildProcess } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { HostProcess } from "../../../src/hsm/hosts/host-process.js";
import { encodeFrame, ReplyKind } from "../../../src/hsm/wire.js";
import type { Log } from "../../../src/log.js";
import { makeFolder } from "../../support/token.js";
import { waitFor } from "../../support/wait.js";

let folder: string;
let logged: { readonly details: object; readonly text: string }[];
let hosts: HostProcess[];

beforeEach(() => {
  folder = makeFolder("host");
  logged = [];
  hosts = [];
});

afterEach(async () => {
  vi.restoreAllMocks();
  for (const host of hosts) host.kill("stop");
  await Promise.all(hosts.map((host) => host.ended));
  rmSync(folder, { recursive: true, force: true });
});

/** Starts a host that runs `script`; lane 0 is file descriptor 3. */
function start(script: string): HostProcess {
  const entry = join(folder, "entry.mjs");
  writeFileSync(entry, script);
  const note = (details: object, text: string): void => void logged.push({ details, text });
  const log: Log = { debug: note, info: note, warn: note, error: note };
  const open = { modulePath: "", token: {}, objectName: "kek" };
  const host = new HostProcess({ entry, env: process.env, open, sessions: 1 }, log);
  hosts.push(host);
  return host;
}

it("a failure reply that cannot be decoded ends the host and its requests", async () => {
  const reply = encodeFrame(1, ReplyKind.failed, Buffer.from("garbled")).toString("hex");
  const host = start(`
    import { Socket } from "node:net";
    const lane = new Socket({ fd: 3 });
    lane.on("data", () => lane.write(Buffer.from("${reply}", "hex")));
  `);
  await expect(host.open()).rejects.toMatchObject({ code: "HSM_UNAVAILABLE" });
  expect(await host.ended).toBe("protocol");
});

it("the log has only the size and the token host's own lines of stderr", async () => {
  start(`
    process.stderr.write("C_Login(pin=8642)\\ntoken host lane 3: ERR_WORKER_OUT_OF_MEMORY\\n");
    process.stdin.resume();
  `);
  const entry = await waitFor(() => logged.find(({ text }) => text.includes("stderr")), {
    timeoutMs: 20_000,
  });
  expect(entry.details).toMatchObject({ bytes: 62, said: "token host lane 3: ERR_WORKER_OUT_OF_MEMORY" });
  expect(JSON.stringify(logged)).not.toContain("8642");
});

it("a process that outlives SIGKILL blocks nothing", async () => {
  const host = start("process.stdin.resume();");
  vi.spyOn(ChildProcess.prototype, "kill").mockReturnValue(true);
  await host.stop(0);
  expect(await host.ended).toBe("stop");
  expect(logged.map(({ text }) => text)).toContainEqual(
    expect.stringContaining("does not end after SIGKILL"),
  );
  vi.restoreAllMocks();
  if (host.pid !== undefined) process.kill(host.pid, "SIGKILL");
});

// Process hardening, observed from outside: a plugin and its token hosts that were started with a debugger, and their
// reaction to signals.

import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";

import { expect, it } from "vitest";

import { usePlugin } from "./support/plugin-fixture.js";
import { childrenOf } from "./support/plugin-process.js";
import { waitFor } from "./support/wait.js";

const kms = usePlugin(
  // A listening socket would be that of a debugger.
  { http: { address: "off" }, hsm: { hosts: 2 } },
  {
    prepare: ({ plugin }) => {
      plugin.env = { NODE_OPTIONS: "--inspect=127.0.0.1:0" };
    },
  },
);

const processes = (): number[] => {
  const { pid } = kms.plugin;
  if (pid === undefined) throw new Error("no plugin");
  return [pid, ...childrenOf(pid)];
};

/** Returns the inodes of the TCP sockets on which a process listens. */
function listening(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  const open = readdirSync(folder).flatMap((fd) => {
    try {
      return [readlinkSync(`${folder}/${fd}`)];
    } catch {
      return [];
    }
  });
  const LISTEN = "0A";
  return readFileSync("/proc/net/tcp", "utf8")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , , state, ...rest]) => state === LISTEN && open.includes(`socket:[${rest[5] ?? ""}]`))
    .map(([, , , , ...rest]) => rest[5] ?? "");
}

it("no process has a debugger, and no signal starts one", async () => {
  // NODE_OPTIONS opened it, and the process closed it.
  expect(kms.plugin.log).toContain("Debugger listening on");
  // A signal that arrives before a process has disabled the debugger would start it.
  const ready = (): number => kms.plugin.log.split('"msg":"token host ready"').length - 1;
  await waitFor(() => ready() === 2 && processes().length === 3, { what: "the plugin and two token hosts" });
  const all = processes();
  for (const pid of all) process.kill(pid, "SIGUSR1");
  expect((await kms.client.status()).healthz).toBe("ok");
  expect(processes()).toEqual(all);
  // A process that has just started closes its debugger in a moment.
  await waitFor(() => all.flatMap(listening).length === 0, { what: "no debugger" });
});

it("a core dump of any process holds no memory", () => {
  for (const pid of processes()) {
    expect(Number.parseInt(readFileSync(`/proc/${pid}/coredump_filter`, "utf8"), 16)).toBe(0);
  }
});

it("SIGTERM drains requests and ends the plugin", async () => {
  expect(await kms.plugin.stop()).toBe(0);
  expect(existsSync(kms.plugin.socket)).toBe(false);
});

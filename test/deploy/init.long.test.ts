// The container image's entry point as PID 1 of a process namespace: orphans of a vendor's library are reaped, and
// signals reach the plugin. Uses the entry point of the Dockerfile; without its init the same orphan stays a zombie.

import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { afterEach, expect, it } from "vitest";

import type { KmsClient } from "../../src/kms-client/kms-client.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { childrenOf, MAIN, type PluginProcess } from "../support/plugin-process.js";
import { waitFor } from "../support/wait.js";

const DOCKERFILE = fileURLToPath(new URL("../../Dockerfile", import.meta.url));
const UNSHARE = ["--pid", "--fork", "--mount-proc", "--kill-child"];
const LIMIT = { timeoutMs: 40_000, intervalMs: 20 };

const kms = usePlugin({}, { token: { kek: true, faults: [] }, start: false });
/** Each test has a plugin of its own. */
let plugin: PluginProcess;
let client: KmsClient;
let unshare: ChildProcess;

afterEach(() => {
  unshare.kill("SIGKILL");
});

function entryPoint(): string[] {
  const line = /^ENTRYPOINT (\[.*\])$/m.exec(readFileSync(DOCKERFILE, "utf8"))?.[1] ?? "[]";
  const words = (JSON.parse(line) as string[]).map((word) => (word === "/app/dist/main.js" ? MAIN : word));
  expect(existsSync(words[0] ?? ""), "tini is missing: apt-get install tini").toBe(true);
  return words;
}

/**
 * Starts the plugin in its own process namespace. Returns the process id, seen from here, of PID 1 in that namespace.
 */
async function startAsInit(command: readonly string[]): Promise<number> {
  ({ plugin, client } = await kms.add({ hsm: {} }));
  const log = openSync(plugin.logFile, "a", 0o600);
  const user = process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"];
  const words = [...user, ...UNSHARE, ...command, "serve", "--config", plugin.configFile];
  unshare = spawn("unshare", words, {
    env: { ...process.env, ...kms.fault.env },
    stdio: ["ignore", log, log],
  });
  const ok = async (): Promise<boolean> => {
    if (unshare.exitCode !== null) throw new Error(`it has ended:\n${plugin.log}`);
    return (await client.status()).healthz === "ok";
  };
  await waitFor(ok, { what: "an ok Status", ...LIMIT });
  return childrenOf(unshare.pid ?? 0)[0] ?? 0;
}

const stateOf = (pid: number): string =>
  /^State:\s+(\w)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "";

/**
 * Ends a token host whose library has a child process. Returns that orphan, which init has inherited and which ends.
 */
async function orphan(init: number): Promise<number> {
  const lives = kms.fault.path("lives");
  writeFileSync(lives, "");
  const before = new Set(childrenOf(init));
  kms.fault.set(
    `C_Encrypt fork ${lives} once=${kms.fault.path("forked")}`,
    `C_Encrypt abort once=${kms.fault.path("aborted")}`,
  );
  await client.encrypt(Buffer.alloc(32, 1), "orphan").catch(() => undefined);
  const found = (): number | undefined => childrenOf(init).find((pid) => !before.has(pid) && isOrphan(pid));
  const pid = await waitFor(found, { what: "an orphan under init", ...LIMIT });
  rmSync(lives);
  for (const name of ["forked", "aborted"]) rmSync(kms.fault.path(name));
  return pid;
}

/** Returns whether it is the orphan and not a new token host, which keeps its standard input open. */
const isOrphan = (pid: number): boolean => !existsSync(`/proc/${pid}/fd/0`);

it("the init reaps orphans of a token host's library", async () => {
  const init = await startAsInit(entryPoint());
  const pid = await orphan(init);
  await waitFor(() => !existsSync(`/proc/${pid}`), { what: "the orphan to be reaped", ...LIMIT });
  expect(plugin.log).not.toContain("PID 1");
});

it("without an init the orphan stays, and the log reports it", async () => {
  const words = entryPoint();
  const init = await startAsInit(words.slice(words.indexOf("--") + 1));
  const pid = await orphan(init);
  await waitFor(() => stateOf(pid) === "Z", { what: "a zombie", ...LIMIT });
  await client.status();
  expect(stateOf(pid)).toBe("Z");
  expect(plugin.log).toContain("running as PID 1");
});

it.each(["SIGTERM", "SIGINT"] as const)(
  "the init passes %s on, and the plugin drains and removes its socket",
  async (signal) => {
    const init = await startAsInit(entryPoint());
    const ended = new Promise<number | null>((resolve) => unshare.once("exit", resolve));
    process.kill(init, signal);
    expect(await ended).toBe(0);
    expect(existsSync(plugin.socket)).toBe(false);
    expect(plugin.log).toContain("kms-pkcs11 stopped");
  },
);

// The attack suite: attacks that a local user may make on the socket and the HTTP endpoints, for a few seconds each,
// while kube-apiserver and kubelet must not be affected. If root runs it, the attackers are other users.

import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { chmodSync, copyFileSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import { startUnlock } from "../../src/server/unlock.js";
import { freePort } from "../support/free-port.js";
import { createKek, PluginProcess, residentBytes } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { makeFolder } from "../support/token.js";
import { waitFor } from "../support/wait.js";
import { HTTP_ATTACKS, SOCKET_ATTACKS, type Plan } from "./attacks.js";
import { Victim } from "./victim.js";

const SECONDS = Number(process.env["SOAK_ATTACK_SECONDS"] ?? "1.5");
const IS_ROOT = process.getuid?.() === 0;
/** Users without a name on any system, and the group that may open the socket. */
const OTHER_USER = 54_321;
const SOCKET_GROUP = 54_322;
/** The plugin may hold at most this much more memory than before the attacks. */
const MOST_GROWTH_BYTES = 256 * 2 ** 20;
const SAMPLE_MS = 100;

let folder: string;
let script: string;
let softHsm: SoftHsm;
let plugin: PluginProcess;
let port: number;
let atStart: number;

interface Outcome {
  readonly connections: number;
  readonly requests: number;
  readonly refused: number;
}

beforeAll(async () => {
  folder = makeFolder("attack");
  chmodSync(folder, 0o755);
  script = join(folder, "attacker.mjs");
  copyFileSync(fileURLToPath(new URL("attacker.mjs", import.meta.url)), script);
  softHsm = createSoftHsm();
  createKek(softHsm);
  port = await freePort();
  plugin = new PluginProcess(softHsm, {
    http: { address: `127.0.0.1:${port}` },
    ...(IS_ROOT && { socket: { mode: "0660", group: String(SOCKET_GROUP) } }),
  });
  for (const path of [plugin.folder, join(plugin.folder, "run")]) chmodSync(path, 0o711);
  await plugin.start();
  atStart = residentBytes(plugin.pid ?? 0);
});

afterAll(async () => {
  await plugin.stop();
  plugin.remove();
  softHsm.remove();
  rmSync(folder, { recursive: true });
});

const attackers: ChildProcess[] = [];
afterEach(() => {
  for (const attacker of attackers.splice(0)) attacker.kill("SIGKILL");
});

function asOther(groups: readonly number[], command: readonly string[]): readonly string[] {
  if (!IS_ROOT) return command;
  const ids = [String(OTHER_USER), String(groups[0] ?? OTHER_USER)];
  return ["setpriv", "--reuid", ids[0] ?? "", "--regid", ids[1] ?? "", "--clear-groups", ...command];
}

class Attacker {
  readonly #child: ChildProcess;
  #told = "";

  constructor(plan: Plan, groups: readonly number[]) {
    const [command = "", ...args] = asOther(groups, [process.execPath, script]);
    this.#child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
    attackers.push(this.#child);
    this.#child.stdin?.end(JSON.stringify(plan));
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => (this.#told += text));
  }

  get outcome(): Outcome {
    const line = this.#told.split("\n").at(-2) ?? "";
    return line === "" ? { connections: 0, requests: 0, refused: 0 } : (JSON.parse(line) as Outcome);
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill();
    await ended;
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Runs an attack and returns what was observed meanwhile. */
async function run(name: string, plan: Plan, groups: readonly number[]): Promise<void> {
  expect(plugin.running, `the plugin has ended: ${plugin.log.slice(-2_000)}`).toBe(true);
  const victim = new Victim(plugin.socket, port);
  await victim.connect();
  const attacker = new Attacker(plan, groups);
  await waitFor(() => attacker.outcome.connections > 0, { what: "the attack" });
  const running = victim.run();
  let most = 0;
  const endsAt = performance.now() + SECONDS * 1_000;
  while (performance.now() < endsAt) {
    most = Math.max(most, residentBytes(plugin.pid ?? 0));
    await pause(SAMPLE_MS);
  }
  victim.stop();
  await running;
  await attacker.stop();
  const { connections, requests } = attacker.outcome;
  console.log(
    `${name}: ${connections} connections, ${requests} requests; kube-apiserver ${victim.rounds} rounds, ` +
      `slowest call ${victim.slowestMs.toFixed(0)} ms; kubelet ${victim.probes} probes; ` +
      `memory at most ${((most - atStart) / 2 ** 20).toFixed(0)} MiB more`,
  );
  expect(plugin.running, `the plugin has ended: ${plugin.log.slice(-2_000)}`).toBe(true);
  expect([...new Set(victim.failures)]).toEqual([]);
  expect(victim.rounds).toBeGreaterThan(0);
  expect(victim.probes).toBeGreaterThan(0);
  expect(most - atStart).toBeLessThan(MOST_GROWTH_BYTES);
}

describe("who may open the socket", () => {
  it.each(Object.entries(SOCKET_ATTACKS))("socket: %s", (name, attack) =>
    run(name, attack({ path: plugin.socket }), [SOCKET_GROUP]),
  );
});

describe.runIf(IS_ROOT)("a user who may not open them", () => {
  const refused = async (path: string): Promise<void> => {
    const attacker = new Attacker(SOCKET_ATTACKS["connections that come and go"]({ path }), []);
    await waitFor(() => attacker.outcome.refused > 10, { what: "refused connections" });
    await attacker.stop();
    expect(attacker.outcome.connections).toBe(0);
  };

  it("another user cannot connect to the plugin's socket", async () => {
    await refused(plugin.socket);
  });

  it("another user cannot connect to the socket that takes the PIN", async () => {
    const path = join(plugin.folder, "run", "unlock.sock");
    const take = (): Promise<never> => Promise.reject(new Error("nobody may send a PIN"));
    const unlock = await startUnlock({ path, maxPinBytes: 255, take });
    await refused(path);
    unlock.stop();
  });

  it("another user can neither read nor write the state directory", () => {
    const entries = readdirSync(plugin.stateDir).map((name) => join(plugin.stateDir, name));
    for (const path of [plugin.stateDir, ...entries]) {
      for (const access of ["-r", "-w"]) {
        const [command = "", ...args] = asOther([], ["test", access, path]);
        expect(spawnSync(command, args).status, `test ${access} ${path}`).toBe(1);
      }
    }
    expect(entries).not.toEqual([]);
  });
});

describe("any user of the machine", () => {
  it.each(Object.entries(HTTP_ATTACKS))("HTTP endpoints: %s", async (name, attack) =>
    run(name, attack({ host: "127.0.0.1", port }), []),
  );
});

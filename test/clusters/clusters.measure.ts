// Many clusters on one plugin and one SoftHSM token: the time of a start, memory and sessions with all API servers
// connected, every ciphertext offered to every socket, and what a flood of one cluster costs the others. Fails if a
// ciphertext is decrypted by another cluster, or a request of a quiet cluster fails; figures are printed, since a busy
// machine is not a defect.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, expect, test } from "vitest";

import { quantile, spreadOf } from "../../src/bench/statistics.js";
import { KmsClient, type KmsCiphertext } from "../../src/kms-client/kms-client.js";
import { ClustersPlugin, createClusterKeks } from "../support/clusters-plugin.js";
import { childrenOf } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { waitFor } from "../support/wait.js";

const CLUSTERS = Number(process.env["CLUSTERS"] ?? "100");
/** API servers of each cluster. */
const CONNECTIONS = Number(process.env["CLUSTERS_CONNECTIONS"] ?? "3");
const WINDOW_MS = Number(process.env["CLUSTERS_WINDOW_MS"] ?? "4000");
const ROUNDS = 5;
const QUIET_CLUSTERS = 4;
/** Of each of the two token hosts. */
const SESSIONS = 8;
/** Requests that the flooding cluster keeps open on each of its connections. */
const FLOOD = 64;
const FLOOD_PROGRAM = fileURLToPath(new URL("flood.mjs", import.meta.url));
const PATIENCE_MS = 60_000;
/** Of Linux's /proc/PID/stat. */
const CLOCK_TICK_MS = 10;

const names = Array.from({ length: CLUSTERS }, (_, at) => `t${at}`);
let token: SoftHsm;
let kms: ClustersPlugin;
const clients = new Map<string, KmsClient[]>();
const sealed = new Map<string, KmsCiphertext>();

beforeAll(async () => {
  token = createSoftHsm();
  await createClusterKeks(token, names);
  kms = await ClustersPlugin.on(token);
  kms.configure(Object.fromEntries(names.map((name) => [name, {}])), { hsm: { sessions: SESSIONS } });
});

afterAll(async () => {
  for (const client of [...clients.values()].flat()) client.close();
  await kms.remove();
  token.remove();
});

const pids = (): number[] => [kms.plugin.pid ?? 0, ...childrenOf(kms.plugin.pid ?? 0)];
const first = (name: string): KmsClient => clients.get(name)?.[0] ?? kms.client(name);

test("every cluster is served after a start", async () => {
  console.log(machineLoad());
  const startedAt = performance.now();
  kms.plugin.launch();
  // Polling every socket would measure the clients.
  const ready = async (): Promise<boolean> => (await kms.get("/readyz")).status === 200;
  await waitFor(ready, { what: "readiness of all clusters", timeoutMs: 120_000, intervalMs: 100 });
  const ms = performance.now() - startedAt;
  const processor = pids().reduce((sum, pid) => sum + processorMs(pid), 0);
  await Promise.all(names.map((name) => kms.serves(name)));
  console.log(
    `start: all ${CLUSTERS} clusters are ready after ${shown(ms)} ms; processor time ${shown(processor)} ms`,
  );
});

test("all API servers are connected", async () => {
  for (const name of names) {
    const own = Array.from({ length: CONNECTIONS }, () => new KmsClient(kms.socketOf(name), PATIENCE_MS));
    clients.set(name, own);
    await Promise.all(own.map((client) => client.status()));
    sealed.set(name, await first(name).encrypt(randomBytes(32), "u"));
  }
  const { text } = await kms.get("/metrics");
  const sessions = /^kms_pkcs11_sessions (\d+)$/m.exec(text)?.[1];
  const [rss, pss] = ["Rss", "Pss"].map((field) => pids().reduce((sum, pid) => sum + mib(pid, field), 0));
  console.log(
    `${CLUSTERS * CONNECTIONS} connections: ${sessions ?? "?"} sessions, ${pids().length} processes, ${shown(rss)} MiB resident, ${shown(pss)} MiB proportional`,
  );
});

test("no cluster decrypts another's ciphertext", async () => {
  let refused = 0;
  for (const [reader, client] of names.map((name) => [name, first(name)] as const)) {
    const outcomes = await Promise.all(
      names.map((owner) => outcomeOf(client.decrypt(sealed.get(owner) as KmsCiphertext, "u"))),
    );
    outcomes.forEach((outcome, at) => {
      expect(outcome, `${names[at] ?? ""} read by ${reader}`).toBe(names[at] === reader ? "ok" : "refused");
      if (outcome === "refused") refused++;
    });
  }
  console.log(`${CLUSTERS * CLUSTERS} offers: ${refused} refused, 0 decrypted by another cluster`);
});

test("a flood of one cluster leaves the others their share", async () => {
  const quiet = names.slice(1, 1 + QUIET_CLUSTERS);
  const rounds: { readonly alone: number[]; readonly flooded: number[] }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const alone = await latencies(quiet);
    const stop = await flood(names[0] ?? "");
    rounds.push({ alone, flooded: await latencies(quiet) });
    console.log(`flood: ${shown(await stop())} requests answered in the window; ${machineLoad()}`);
  }
  // A busy machine affects the p99 far more than the median. A ratio compares what followed directly on each other.
  for (const percentile of [50, 99]) {
    const before = rounds.map(({ alone }) => quantile(alone, percentile / 100));
    const during = rounds.map(({ flooded }) => quantile(flooded, percentile / 100));
    const ratios = during.map((value, at) => value / (before[at] ?? NaN));
    console.log(
      `p${percentile} of the others, in ${ROUNDS} rounds: ${spread(before)} ms alone, ${spread(during)} ms during a flood: ${spread(ratios)} times`,
    );
  }
});

/** Paces single requests of several clusters for one window, and returns how long each took. */
async function latencies(of: readonly string[]): Promise<number[]> {
  const until = performance.now() + WINDOW_MS;
  const took: number[] = [];
  await Promise.all(
    of.map(async (name) => {
      while (performance.now() < until) {
        const at = performance.now();
        await first(name).encrypt(Buffer.alloc(32, 1), "u");
        took.push(performance.now() - at);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }),
  );
  return took;
}

/** Starts a process that floods a cluster; resolves, once it does, with what ends it and gives the number of answers. */
async function flood(name: string): Promise<() => Promise<number>> {
  const args = [FLOOD_PROGRAM, kms.socketOf(name), String(CONNECTIONS), String(FLOOD)];
  const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  await lines.next();
  return async () => {
    child.stdin.end();
    return Number((await lines.next()).value);
  };
}

async function outcomeOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => "ok",
    (error: unknown) => (/NOT_FOUND/.test(String(error)) ? "refused" : String(error)),
  );
}

function mib(pid: number, field: string): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(text)?.[1] ?? 0) / 1024;
}

/** Returns the median, and the quartiles in brackets. */
function spread(values: readonly number[]): string {
  const { median, low, high } = spreadOf(values);
  return `${median.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`;
}

function machineLoad(): string {
  return `load average ${loadavg()[0]?.toFixed(1) ?? "?"} on ${availableParallelism()} processors`;
}

/** Returns the processor time that a process has taken so far, in ms. */
function processorMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
  return CLOCK_TICK_MS * (Number(fields[11]) + Number(fields[12]));
}

function shown(value: number | undefined): string {
  return value === undefined ? "?" : value.toFixed(0);
}

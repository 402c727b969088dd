// `rotation run` with three API servers under load: killed around every step and run again, it ends with one new KEK,
// everything under it, the KEK that is due destroyed, and no failed request. Before a step is after the one before.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { STEPS, type Step } from "../../src/admin/rotation/position.js";
import { MAIN } from "../support/plugin-process.js";
import { nodeUrls, storedKeyIds } from "./harness/keyring.js";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import { kmsPkcs11Ok } from "./harness/kms-pkcs11.js";
import { Load } from "./harness/load.js";
import { record } from "./harness/report.js";
import { SoftHsmToken } from "./harness/softhsm-token.js";

const SECTION = "rotation run";
/** Kills before and during every step. Otherwise during the steps that change something, and before the others. */
const AT_EVERY_POINT = process.env["E2E_EVERY_KILL"] !== undefined;
const CHANGING: readonly Step[] = ["create", "activate", "migrate", "retire"];
/** How long after the begin of a step "during" is, in ms. */
const DURING_MS = 150;

interface Point {
  readonly step: Step;
  readonly phase: "before" | "during" | "after";
}

interface Event {
  readonly event: "begun" | "done" | "postponed" | "report";
  readonly step: Step;
  readonly kek: { readonly keyId: string; readonly state: string } | null;
  readonly destroyed: readonly { readonly keyId: string }[];
  readonly postponed: { readonly keyId: string } | null;
}

let token: SoftHsmToken;
let cluster: KmsCluster;
let nodes: Node[];
let load: Load;
let asking: NodeJS.Timeout;
let kubeconfig: string;

beforeAll(async () => {
  token = await SoftHsmToken.create();
  for (const daysAgo of [4, 3]) await token.makeKekOfPast(daysAgo);
  cluster = await KmsCluster.start(token, true);
  nodes = [];
  for (let index = 0; index < 3; index++) {
    nodes.push(await cluster.startNode({ config: { keys: { refreshInterval: "1s" } } }));
  }
  // Nodes that have run for an hour can say that they have left the earlier KEK.
  for (const { plugin } of nodes) await plugin.ageMemory(60 * 60_000);
  const clients = nodes.map(({ apiserver }) => apiserver.client);
  load = Load.start(clients, NAMESPACE, { pauseMs: 250 });
  // An API server asks the plugin for its key_id once a minute, and when its health is requested.
  asking = setInterval(() => {
    for (const { apiserver } of nodes) void apiserver.get("/readyz").catch(() => undefined);
  }, 1_000);
  kubeconfig = (await nodes[0]?.apiserver.writeKubeconfig()) ?? "";
});

afterAll(async () => {
  clearInterval(asking);
  await load.stop();
  await cluster.stop();
});

interface Run {
  readonly code: number | null;
  readonly report: Event | undefined;
  readonly stderr: string;
}

/**
 * Runs the command until it reaches the first point, and kills it there. Points of steps that were left behind are
 * removed: the kill before was late, and the step complete.
 */
async function runUntil(points: Point[], reached: Point[]): Promise<Run> {
  const child = spawn(process.execPath, [MAIN, ...args()], {
    env: { ...process.env, ...token.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stderr = "";
  let report: Event | undefined;
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  for await (const line of createInterface({ input: child.stdout })) {
    const event = JSON.parse(line) as Event;
    if (event.event === "report") report = event;
    while (points[0] !== undefined && isBehind(points[0], event)) points.shift();
    const [point] = points;
    if (point === undefined || point.step !== event.step) continue;
    if (event.event !== (point.phase === "after" ? "done" : "begun")) continue;
    if (point.phase === "during") await pause(DURING_MS);
    child.kill("SIGKILL");
    points.shift();
    reached.push(point);
    break;
  }
  return { code: await ended, report, stderr };
}

const isBehind = ({ step }: Point, event: Event): boolean =>
  event.event === "report" || STEPS.indexOf(step) < STEPS.indexOf(event.step);

const args = (): string[] => [
  ...["rotation", "run", "--key", token.uri(), "--nodes", nodeUrls(cluster.plugins), "-o", "json"],
  ...["--max-age", "24h", "--activate-in", "30s", "--destroy-after", "48h"],
  ...["--endpoints", cluster.plane.etcd.endpoint, "--kubeconfig", kubeconfig],
];

const listed = async (): Promise<string[][]> =>
  (
    JSON.parse(await kmsPkcs11Ok(["keys", "list", "--key", token.uri(), "-o", "json"], token.env)) as {
      keys: { keyId: string; state: string }[];
    }
  ).keys.map(({ state, keyId }) => [state, keyId]);

it("rotation run, killed at every step and run again, rotates once without a failed request", async () => {
  const [[, former = ""] = [], [, due = ""] = []] = await listed();
  const points = STEPS.flatMap((step): Point[] => {
    const isChanging = CHANGING.includes(step);
    return [
      ...(AT_EVERY_POINT || !isChanging ? [{ step, phase: "before" } as const] : []),
      ...(AT_EVERY_POINT || isChanging ? [{ step, phase: "during" } as const] : []),
    ];
  });
  points.push({ step: "retire", phase: "after" });
  const reached: Point[] = [];
  const begun = Date.now();
  let last: Run;
  let runs = 0;
  do {
    last = await runUntil(points, reached);
    expect(++runs, last.stderr).toBeLessThan(40);
    expect([null, 0], last.stderr).toContain(last.code);
  } while (last.code !== 0);
  record(
    SECTION,
    "runs, kills, s",
    [runs, reached.length, Math.round((Date.now() - begun) / 1000)].join(", "),
  );

  const keyId = last.report?.kek?.keyId ?? "";
  expect(last.report).toMatchObject({ kek: { state: "active" }, postponed: { keyId: former } });
  expect(await listed()).toEqual([
    ["active", keyId],
    ["retired", former],
  ]);
  expect([former, due]).not.toContain(keyId);
  const steps = new Set(reached.map(({ step }) => step));
  // A slow run finds the others done.
  for (const step of ["preflight", "create", "migrate", "verify", "retire"]) {
    expect(steps).toContain(step);
  }
  await load.stop();
  expect(load.failures).toEqual([]);
  record(SECTION, "writes, reads by another, failures", [load.written, load.read, 0].join(", "));
  const stored = await storedKeyIds(cluster.plane.etcd, NAMESPACE);
  expect(stored.size).toBe(load.written);
  expect(new Set(stored.values())).toEqual(new Set([keyId]));
}, 600_000);

it("rotation run after a complete rotation changes nothing", async () => {
  const before = await listed();
  const { code, report, stderr } = await runUntil([], []);
  expect([code, report?.destroyed], stderr).toEqual([0, []]);
  expect(await listed()).toEqual(before);
});

it("rotation abort takes nothing back once the KEK is active", async () => {
  const [[, active = ""] = []] = await listed();
  const command = ["rotation", "abort", active, "--key", token.uri(), "--nodes", nodeUrls(cluster.plugins)];
  await expect(kmsPkcs11Ok(command, token.env)).rejects.toThrow(
    `only a standby KEK can be taken back, and "kms-kek@`,
  );
});

// The etcd commands on a large etcd and on a snapshot of it, in turn with etcdctl. Fails if a count is wrong or memory is
// not bounded; a missed target of time is reported but does not fail the run, since a busy machine is not a defect.

import { statSync } from "node:fs";

import { afterAll, beforeAll, expect, test } from "vitest";

import { describeMachine } from "../../src/bench/machine.js";
import { ratioOf, spreadOf } from "../../src/bench/statistics.js";
import { rotated } from "../bench/bench-run.js";
import { Results, shown } from "../bench/results.js";
import { GreatEtcd, LEFTOVERS, NAMESPACES } from "./great-etcd.js";
import { measure } from "./measured.js";

const OBJECTS = Number(process.env["SCALE_OBJECTS"] ?? "200000");
const SECRETS = Math.min(OBJECTS, Number(process.env["SCALE_SECRETS"] ?? "100000"));
const SEEDS = Number(process.env["SCALE_SEEDS"] ?? "1000");
const REPETITIONS = Number(process.env["SCALE_REPETITIONS"] ?? "5");
/** The limit for the command's process, whatever the number of objects. */
const MOST_MIB = 300;

const ETCDCTL = "`etcdctl get --prefix`, output thrown away";
const USAGE = "`etcd usage`";
const VERIFY = "`etcd verify` of the Secrets";
const SNAPSHOT = "`etcd usage --snapshot`";

interface Turn {
  readonly seconds: number;
  /** The highest resident memory of the command and of its token hosts, in MiB. */
  readonly peakMib?: number;
  readonly hostsPeakMib?: number;
}

const results = new Results(describeMachine(), { name: "scale" });
const turns = new Map<string, Turn[]>();
let etcd: GreatEtcd;
let snapshot: string;

beforeAll(async () => {
  etcd = await GreatEtcd.fill(
    { objects: OBJECTS, secrets: SECRETS, seeds: SEEDS },
    process.env["SCALE_BINARIES"] ?? "",
  );
  snapshot = etcd.snapshot();
});

afterAll(async () => {
  await etcd.remove();
  report();
  console.log(`\n${results.write()}`);
  if (process.env["SCALE_WRITE"] === "1") results.intoPage();
});

const leftoversIn = (count: number): number => Math.ceil((count - 1) / LEFTOVERS);

const COUNTED = {
  objects: OBJECTS,
  usages: expect.arrayContaining([
    expect.objectContaining({
      provider: "kms:v2:hsm",
      objects: OBJECTS - leftoversIn(OBJECTS) - leftoversIn(OBJECTS - 1),
      seeds: { count: SEEDS, isAtLeast: false },
      namespaces: { count: NAMESPACES - 2 * (NAMESPACES / LEFTOVERS), isAtLeast: false },
    }),
    expect.objectContaining({ provider: "aescbc:v1:key1", objects: leftoversIn(OBJECTS - 1) }),
    expect.objectContaining({ protection: "plaintext", objects: leftoversIn(OBJECTS) }),
  ]) as unknown[],
};
const VERIFIED = { objects: SECRETS, decrypts: SEEDS, failures: [] };

/** In the order of the table. */
const SUBJECTS: readonly (readonly [string, () => Promise<Turn>])[] = [
  [ETCDCTL, () => Promise.resolve(getAll())],
  [USAGE, () => run(COUNTED, "usage")],
  [VERIFY, () => run(VERIFIED, "verify", "--config", etcd.configFile, "--prefix", "/registry/secrets")],
  [SNAPSHOT, () => run(COUNTED, "usage", "--snapshot", snapshot)],
];

test.each(Array.from({ length: REPETITIONS }, (_, at) => at))(
  "all subjects in turn, repetition %i",
  async (at) => {
    for (const [name, take] of rotated(SUBJECTS, at)) {
      turns.set(name, [...(turns.get(name) ?? []), await take()]);
    }
  },
);

function getAll(): Turn {
  const begun = performance.now();
  etcd.etcdctl("get", "--prefix", "/registry/");
  return { seconds: (performance.now() - begun) / 1000 };
}

/** Runs an etcd command of the program and compares its result. */
async function run(expected: object, ...args: readonly string[]): Promise<Turn> {
  const measured = await measure(["etcd", ...args, "-o", "json"], etcd.env);
  expect([measured.code, measured.stderr]).toEqual([0, ""]);
  expect(JSON.parse(measured.stdout)).toMatchObject(expected);
  expect(measured.peakMib).toBeGreaterThan(0);
  expect(measured.peakMib).toBeLessThan(MOST_MIB);
  return measured;
}

function report(): void {
  const secondsOf = (name: string): number[] => (turns.get(name) ?? []).map(({ seconds }) => seconds);
  const count = (objects: number): string => objects.toLocaleString("en");
  const all = `${count(OBJECTS)} objects`;
  // Repetitions that failed have fewer turns.
  if (SUBJECTS.some(([name]) => secondsOf(name).length < REPETITIONS)) return;
  const ratio = ratioOf(secondsOf(USAGE), secondsOf(ETCDCTL));
  results.ratio(`${USAGE} of ${all}, beside ${ETCDCTL}`, { atMost: 2 }, ratio);
  results.below(`${SNAPSHOT} of ${all}`, 20, spreadOf(secondsOf(SNAPSHOT)), "s");
  const verified = `${VERIFY}: ${count(SECRETS)} under ${count(SEEDS)} DEK seeds`;
  results.below(verified, 6, spreadOf(secondsOf(VERIFY)), "s");
  results.detail("turns", Object.fromEntries(turns));
  const snapshotMib = (statSync(snapshot, { throwIfNoEntry: false })?.size ?? 0) / 2 ** 20;
  results.table(
    `The \`etcd\` commands in turn with etcdctl: ${all}, ${count(SECRETS)} of them Secrets, snapshot of ${snapshotMib.toFixed(0)} MiB`,
    ["subject", "s", "objects per s", "most memory of the command, MiB", "of its token hosts, MiB"],
    SUBJECTS.map(([name]) => {
      const seconds = spreadOf(secondsOf(name));
      const most = (key: "peakMib" | "hostsPeakMib"): string => {
        const peak = Math.max(...(turns.get(name) ?? []).map((turn) => turn[key] ?? 0));
        return peak > 0 ? peak.toFixed(0) : "";
      };
      const rate = (name === VERIFY ? SECRETS : OBJECTS) / seconds.median;
      return [name, shown(seconds, 1), count(Math.round(rate)), most("peakMib"), most("hostsPeakMib")];
    }),
  );
}

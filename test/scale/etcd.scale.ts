// The etcd commands on a large etcd: a million objects, most of them sealed under DEK seeds that a plugin encrypted on
// SoftHSM, in an order in which neighbours rarely share a seed. The first objects belong to another resource, for
// commands that use the HSM. Fails if a count is wrong or memory is not bounded; prints times without judging them.

import { execFileSync } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { statSync } from "node:fs";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { parallel } from "../e2e/harness/parallel.js";
import { startEtcd, type TestEtcd } from "../support/etcd.js";
import { createKek, PluginProcess } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { newSeeds, sealedValue, type StoredSeed } from "../support/stored-secrets.js";
import { makeFolder } from "../support/token.js";
import { measure, type Measured } from "./measured.js";

const OBJECTS = Number(process.env["SCALE_OBJECTS"] ?? "1000000");
const SECRETS = Math.min(OBJECTS, Number(process.env["SCALE_SECRETS"] ?? "100000"));
const SEEDS = Number(process.env["SCALE_SEEDS"] ?? "1000");
/** The folder that contains etcd and etcdctl. */
const BINARIES = process.env["SCALE_BINARIES"] ?? "";
const NAMESPACES = 5_000;
/** One in this many objects is in clear, and one is under another provider. */
const LEFTOVERS = 100;
const VALUE_BYTES = 120;
const PUTS_AT_ONCE = 1_000;
const WRITERS = 4;
/** The limit for the command's process, whatever the number of objects. */
const MOST_MIB = 300;

const folder = makeFolder("scale");
const figures: string[][] = [];
let token: SoftHsm;
let etcd: TestEtcd;
let plugin: PluginProcess;
let seeds: readonly StoredSeed[];

beforeAll(async () => {
  const quota = String(8 * 2 ** 30);
  const options = [`--max-txn-ops=${PUTS_AT_ONCE}`, `--quota-backend-bytes=${quota}`, "--unsafe-no-fsync"];
  etcd = await startEtcd(join(BINARIES, "etcd"), options);
  token = createSoftHsm();
  createKek(token);
  plugin = new PluginProcess(token);
  await plugin.start();
  seeds = await newSeeds(plugin.socket, SEEDS);
  await plugin.stop();
  const begun = performance.now();
  await parallel(WRITERS, WRITERS, (writer) => etcd.store.putAll(objects(writer), PUTS_AT_ONCE));
  tell("stored by the test", OBJECTS, (performance.now() - begun) / 1000);
});

afterAll(async () => {
  const widths = [0, 1, 2, 3].map((column) => Math.max(...figures.map((row) => row[column]?.length ?? 0)));
  for (const row of figures) {
    console.log(row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "));
  }
  await plugin.stop();
  plugin.remove();
  token.remove();
  await etcd.remove();
});

function* objects(writer: number): Generator<[string, Buffer]> {
  for (let at = writer; at < OBJECTS; at += WRITERS) {
    const resource = at < SECRETS ? "secrets" : "configmaps";
    const key = `/registry/${resource}/namespace-${at % NAMESPACES}/object-${at}`;
    yield [key, valueOf(at, key)];
  }
}

function valueOf(at: number, key: string): Buffer {
  const content = randomBytes(VALUE_BYTES / 2).toString("hex");
  if (at % LEFTOVERS === 1) return Buffer.from(`k8s\0${content}`);
  if (at % LEFTOVERS === 2) return Buffer.from(`k8s:enc:aescbc:v1:key1:${content}`);
  const seed = seeds[at < SEEDS * 2 ? at % SEEDS : randomInt(SEEDS)];
  if (seed === undefined) throw new Error("no seed");
  return sealedValue(seed, key, content);
}

function tell(what: string, count: number, seconds: number, memory = ""): void {
  const rate = `${(count / seconds).toFixed(0)} per s`;
  figures.push([what, `${count} objects in ${seconds.toFixed(1)} s`, rate, memory]);
}

async function run(what: string, count: number, ...args: string[]): Promise<unknown> {
  const env = { ...token.env, ETCDCTL_ENDPOINTS: etcd.endpoint };
  const measured: Measured = await measure(["etcd", ...args, "-o", "json"], env);
  const { code, stdout, stderr, seconds, peakMib, hostsPeakMib } = measured;
  const hosts = hostsPeakMib > 0 ? `, token host ${hostsPeakMib.toFixed(0)} MiB` : "";
  tell(what, count, seconds, `at most ${peakMib.toFixed(0)} MiB${hosts}`);
  expect([code, stderr]).toEqual([0, ""]);
  expect(peakMib).toBeGreaterThan(0);
  expect(peakMib).toBeLessThan(MOST_MIB);
  return JSON.parse(stdout);
}

/** Has etcdctl fetch all objects and throw them away. */
function getAll(): void {
  const begun = performance.now();
  const get = ["--endpoints", etcd.endpoint, "--command-timeout", "10m", "get", "--prefix", "/registry/"];
  execFileSync(join(BINARIES, "etcdctl"), get, { stdio: "ignore" });
  tell("etcdctl get --prefix", OBJECTS, (performance.now() - begun) / 1000);
}

const leftoversIn = (count: number): number => Math.ceil((count - 1) / LEFTOVERS);

describe("a great etcd", () => {
  const counted = {
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

  test("etcd usage, beside etcdctl get --prefix before and after it", async () => {
    getAll();
    expect(await run("etcd usage", OBJECTS, "usage")).toMatchObject(counted);
    getAll();
  });

  test("etcd verify asks the HSM once for each DEK seed", async () => {
    const all = ["verify", "--config", plugin.configFile, "--prefix", "/registry/secrets"];
    expect(await run("etcd verify", SECRETS, ...all)).toMatchObject({
      objects: SECRETS,
      decrypts: SEEDS,
      failures: [],
    });
  });

  test("etcd usage --snapshot", async () => {
    const file = join(folder, "snapshot.db");
    const save = ["--endpoints", etcd.endpoint, "snapshot", "save", file];
    execFileSync(join(BINARIES, "etcdctl"), save, { stdio: "ignore" });
    const what = `etcd usage, snapshot of ${(statSync(file).size / 2 ** 20).toFixed(0)} MiB`;
    expect(await run(what, OBJECTS, "usage", "--snapshot", file)).toMatchObject(counted);
  });
});

// The working set of a plugin process on a real token: restarts, damage and a slow HSM. Whether a request needs the
// HSM is counted by the cache's misses.

import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { beforeAll, expect, it } from "vitest";

import type { KmsCiphertext } from "../../src/kms-client/kms-client.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { waitFor } from "../support/wait.js";

const SEEDS = 100;
const LONG = { timeoutMs: 40_000, intervalMs: 50 };

const kms = usePlugin({ hsm: {} }, { token: { kek: true, faults: [] } });
let file: string;
const seeds: { readonly plaintext: Buffer; readonly sealed: KmsCiphertext }[] = [];

beforeAll(async () => {
  file = join(kms.plugin.stateDir, "working-set");
  for (let at = 0; at < SEEDS; at++) {
    const plaintext = randomBytes(32);
    seeds.push({ plaintext, sealed: await kms.client.encrypt(plaintext, `${at}`) });
  }
});

const isPrefetched = (): Promise<boolean> =>
  waitFor(async () => (await kms.own.metric("working_set_prefetched_total")) === SEEDS, LONG);

async function expectAllReadable(): Promise<void> {
  for (const { plaintext, sealed } of seeds) {
    expect((await kms.client.decrypt(sealed, "read")).equals(plaintext)).toBe(true);
  }
}

it("after a restart, Decrypts of earlier seeds make no call into a slow HSM", async () => {
  kms.fault.set("* sleep 2");
  await kms.own.restart();
  await isPrefetched();
  expect(await kms.own.metric("sessions")).toBeGreaterThan(2);
  const calls = kms.fault.calls("C_Decrypt");
  await expectAllReadable();
  expect(await kms.own.metric("cache_misses_total")).toBe(0);
  expect(await kms.own.metric("working_set_hits_total")).toBe(SEEDS);
  // The proofs, which continue meanwhile, are far fewer than the seeds.
  expect(kms.fault.calls("C_Decrypt") - calls).toBeLessThan(SEEDS / 4);
});

it("the file holds no plaintext, and only the plugin's user can read it", () => {
  const bytes = readFileSync(file);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  for (const { plaintext, sealed } of seeds) {
    expect(bytes.includes(sealed.ciphertext)).toBe(true);
    expect(bytes.includes(plaintext)).toBe(false);
  }
});

it("a damaged file is set aside, and the plugin starts and serves", async () => {
  await kms.own.stop();
  const bytes = readFileSync(file);
  bytes[100] = (bytes[100] ?? 0) ^ 1;
  writeFileSync(file, bytes);
  await kms.own.start();
  expect(existsSync(`${file}.damaged`)).toBe(true);
  expect(kms.plugin.log.match(/the stored working set cannot be used/g)).toHaveLength(1);
  expect(await kms.own.metric("working_set_remembered")).toBe(0);
  await expectAllReadable();
});

it("nothing is prefetched or stored if remembering is off", async () => {
  await kms.own.restart({ hsm: {}, cache: { remember: false } });
  const before = readFileSync(file);
  await expectAllReadable();
  expect(await kms.own.metric("cache_misses_total")).toBe(SEEDS);
  await kms.own.stop();
  expect(readFileSync(file).equals(before)).toBe(true);
});

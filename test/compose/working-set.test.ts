// The working set of a plugin process on a real token: restarts, damage and a slow HSM. Whether a request needs the
// HSM is counted by the cache's misses.

import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterAll, beforeAll, expect, it } from "vitest";

import { KmsClient, type KmsCiphertext } from "../../src/kms-client/kms-client.js";
import { freePort } from "../support/free-port.js";
import { FaultModule } from "../support/fault-module.js";
import { createKek, PluginProcess, type PluginSettings } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { waitFor } from "../support/wait.js";

const SEEDS = 100;
const LONG = { timeoutMs: 40_000, intervalMs: 50 };

let softHsm: SoftHsm;
let fault: FaultModule;
let plugin: PluginProcess;
let client: KmsClient;
let address: string;
let file: string;
const seeds: { readonly plaintext: Buffer; readonly sealed: KmsCiphertext }[] = [];

beforeAll(async () => {
  softHsm = createSoftHsm();
  fault = new FaultModule(softHsm);
  createKek(fault);
  plugin = new PluginProcess(fault);
  file = join(plugin.stateDir, "working-set");
  await start();
  for (let at = 0; at < SEEDS; at++) {
    const plaintext = randomBytes(32);
    seeds.push({ plaintext, sealed: await client.encrypt(plaintext, `${at}`) });
  }
});

afterAll(async () => {
  client.close();
  await plugin.stop();
  plugin.remove();
  fault.remove();
  softHsm.remove();
});

async function start(settings: PluginSettings = {}): Promise<void> {
  address = `127.0.0.1:${await freePort()}`;
  plugin.configure({ http: { address }, ...settings });
  await plugin.start();
  client = new KmsClient(plugin.socket);
}

async function restart(settings: PluginSettings = {}): Promise<void> {
  client.close();
  await plugin.stop();
  await start(settings);
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`http://${address}/metrics`)).text();
  return Number(new RegExp(`^kms_pkcs11_${name} (\\S+)$`, "m").exec(text)?.[1]);
}

const isPrefetched = (): Promise<boolean> =>
  waitFor(async () => (await metric("working_set_prefetched_total")) === SEEDS, LONG);

async function expectAllReadable(): Promise<void> {
  for (const { plaintext, sealed } of seeds) {
    expect((await client.decrypt(sealed, "read")).equals(plaintext)).toBe(true);
  }
}

it("after a restart, Decrypts of earlier seeds make no call into a slow HSM", async () => {
  fault.set("* sleep 2");
  await restart();
  await isPrefetched();
  expect(await metric("sessions")).toBeGreaterThan(2);
  const calls = fault.calls("C_Decrypt");
  await expectAllReadable();
  expect(await metric("cache_misses_total")).toBe(0);
  expect(await metric("working_set_hits_total")).toBe(SEEDS);
  // The proofs, which continue meanwhile, are far fewer than the seeds.
  expect(fault.calls("C_Decrypt") - calls).toBeLessThan(SEEDS / 4);
  fault.clear();
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
  client.close();
  await plugin.stop();
  const bytes = readFileSync(file);
  bytes[100] = (bytes[100] ?? 0) ^ 1;
  writeFileSync(file, bytes);
  await start();
  expect(existsSync(`${file}.damaged`)).toBe(true);
  expect(plugin.log.match(/the stored working set cannot be used/g)).toHaveLength(1);
  expect(await metric("working_set_remembered")).toBe(0);
  await expectAllReadable();
});

it("nothing is prefetched or stored if remembering is off", async () => {
  await restart({ cache: { remember: false } });
  const before = readFileSync(file);
  await expectAllReadable();
  expect(await metric("cache_misses_total")).toBe(SEEDS);
  client.close();
  await plugin.stop();
  expect(readFileSync(file).equals(before)).toBe(true);
});

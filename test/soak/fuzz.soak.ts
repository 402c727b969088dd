// The fuzz run: hostile bytes on one connection after another, while a client requires its answers. Fails if the plugin
// ends, gives a wrong answer or none, does not release a connection's resources, or grows.

import { readdirSync } from "node:fs";
import { connect } from "node:net";

import { afterAll, beforeAll, expect, test } from "vitest";

import { KmsClient } from "../../src/kms-client/kms-client.js";
import { childrenOf, createKek, PluginProcess, residentBytes } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { waitFor } from "../support/wait.js";
import { seededRandom } from "./faults.js";
import { HTTP2_FAMILIES } from "./hostile-http2.js";
import { MESSAGE_FAMILIES } from "./hostile-messages.js";

const CASES = Number(process.env["SOAK_FUZZ"] ?? "600");
const SEED = Number(process.env["SOAK_SEED"] ?? String(Date.now() % 1_000_000));
const PEERS = 6;
/** How long to wait for an answer; a connection that gets one is closed at once. */
const PATIENCE_MS = 50;
const CASES_PER_CHECK = 50;
const FAMILIES = Object.entries({ ...HTTP2_FAMILIES, ...MESSAGE_FAMILIES });
/** A connection with broken HTTP/2 is released when it does not answer a ping. */
const LET_GO_MS = 30_000;
/** Pools and compiled code account for the growth in the first cases; growth with the number of cases is a leak. */
const MOST_GROWTH_BYTES = 64 * 2 ** 20;

let softHsm: SoftHsm;
let plugin: PluginProcess;
let client: KmsClient;
let failed = true;

beforeAll(async () => {
  softHsm = createSoftHsm();
  createKek(softHsm);
  // A reload of the keys replaces a token host, as an attack must not.
  const keys = { refreshInterval: "5m" };
  plugin = new PluginProcess(softHsm, { keys, cache: { entries: 0 }, log: { level: "error" } });
  await plugin.start();
  client = new KmsClient(plugin.socket);
});

afterAll(async () => {
  client.close();
  await plugin.stop();
  if (!failed) plugin.remove();
  softHsm.remove();
});

/**
 * Sends the bytes and closes the connection after an answer, an end, or some silence. Returns whether the plugin
 * accepted the connection: it answers the first bytes of every accepted connection with its SETTINGS.
 */
async function attack(bytes: Buffer): Promise<boolean> {
  const socket = connect(plugin.socket);
  let answers = 0;
  await new Promise<void>((resolve) => {
    const patience = setTimeout(resolve, PATIENCE_MS);
    const done = (): void => {
      clearTimeout(patience);
      resolve();
    };
    socket.once("close", done).on("error", done);
    // The first two chunks answer the preface; any further one answers the attack.
    socket.on("data", () => {
      answers += 1;
      if (answers > 2) done();
    });
    socket.write(bytes);
  });
  socket.destroy();
  return answers > 0;
}

const plaintext = Buffer.from("thirty-two bytes of a DEK seed..");

async function answersRightly(): Promise<void> {
  expect(plugin.running, `the plugin has ended; see ${plugin.logFile}`).toBe(true);
  expect((await client.status()).healthz).toBe("ok");
  const opened = await client.decrypt(await client.encrypt(plaintext, "fuzz"), "fuzz");
  expect(opened).toEqual(plaintext);
}

const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

test("hostile bytes end nothing, hold nothing and disturb nobody", async () => {
  const { pid } = plugin;
  if (pid === undefined) throw new Error("no plugin");
  const hosts = childrenOf(pid);
  await answersRightly();
  const descriptorsBefore = descriptors(pid);
  const random = seededRandom(SEED);
  let next = 0;
  let afterFirst = 0;
  let most = 0;
  const attackOn = async (): Promise<void> => {
    while (next < CASES) {
      const number = next++;
      const [family, make] = FAMILIES[number % FAMILIES.length] ?? [];
      if (family === undefined || make === undefined) throw new RangeError("no such family");
      const bytes = make(random);
      await waitFor(() => attack(bytes), {
        what: `room for ${family}, seed ${SEED}`,
        timeoutMs: LET_GO_MS,
        intervalMs: 100,
      });
      if (number % CASES_PER_CHECK === 0) {
        await answersRightly();
        const now = residentBytes(pid);
        if (number <= CASES / 4) afterFirst = now;
        most = Math.max(most, now);
      }
    }
  };
  await Promise.all(Array.from({ length: PEERS }, attackOn));
  await waitFor(() => descriptors(pid) <= descriptorsBefore, {
    what: `the ${descriptorsBefore} file descriptors that there were before`,
    timeoutMs: LET_GO_MS,
  });
  await answersRightly();
  const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(0);
  console.log(
    `fuzz of ${CASES} connections in ${FAMILIES.length} families, seed ${SEED}\n` +
      `  resident memory of the plugin: ${mebibytes(afterFirst)} MiB after a quarter, at most ${mebibytes(most)} MiB, ` +
      `${mebibytes(residentBytes(pid))} MiB in the end; ${descriptors(pid)} file descriptors, before ${descriptorsBefore}`,
  );
  expect(childrenOf(pid)).toEqual(hosts);
  expect(plugin.log).toBe("");
  expect(most - afterFirst).toBeLessThan(MOST_GROWTH_BYTES);
  failed = false;
});

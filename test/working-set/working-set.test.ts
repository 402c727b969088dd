// The working set of a provider on a scripted HSM: what is decrypted in advance after a restart, what is renewed, and
// what a failing HSM, a missing KEK or a planted entry changes.

import { afterEach, beforeEach, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import type { DecryptQuestion, EncryptAnswer, RequestContext } from "../../src/provider/kms.js";
import { RunningProvider, type ProviderOptions } from "../../src/provider/running-provider.js";
import type { WorkingSetStore } from "../../src/working-set/file.js";
import { WorkingSet } from "../../src/working-set/working-set.js";
import { FakeHsm, SILENT } from "../support/fake-hsm.js";
import { kekRecord } from "../support/kek-record.js";
import { providerOptions } from "../support/provider-options.js";
import { waitFor } from "../support/wait.js";

const AWAY = new KmsError("HSM_UNAVAILABLE", "away");
const OFTEN = { timeoutMs: 60_000, intervalMs: 5 };

/** What an earlier process saved. */
class Memory implements WorkingSetStore {
  questions: DecryptQuestion[] = [];
  saves = 0;
  load = (): DecryptQuestion[] => this.questions;
  save = (questions: Iterable<DecryptQuestion>): Promise<number> => {
    this.saves++;
    this.questions = [...questions];
    return Promise.resolve(this.questions.length);
  };
}

let hsm: FakeHsm;
let memory: Memory;
let running: RunningProvider;
let workingSet: WorkingSet;
let misses: number;

interface StartOptions extends Partial<ProviderOptions> {
  readonly ttlMs?: number;
  readonly outageTtlMs?: number;
  readonly entries?: number;
}

function start({ ttlMs = 60_000, outageTtlMs = 60_000, entries = 100, ...options }: StartOptions = {}): void {
  const observer = { cacheHit: () => undefined, cacheMiss: () => misses++, cacheEvicted: () => undefined };
  misses = 0;
  const cache = { entries, ttlMs, outageTtlMs, observer };
  const localKek = { maxAgeMs: 60_000, maxUses: 1_000 };
  running = new RunningProvider(providerOptions(hsm, { intervalMs: 20, cache, localKek, ...options }));
  workingSet = new WorkingSet({
    seeds: running.knownSeeds,
    store: memory,
    ttlMs,
    isAway: () => running.outage.reason !== undefined,
    most: 4,
    log: SILENT,
    saveMs: 20,
  });
  running.follow(workingSet);
  running.start();
}

async function stop(): Promise<void> {
  await workingSet.close();
  running.stop();
}

async function restart(options: StartOptions = {}): Promise<void> {
  await stop();
  start(options);
}

const context = (): RequestContext => ({ uid: "test", startedAt: performance.now(), cancelled: false });
const open = async (sealed: DecryptQuestion): Promise<string> =>
  Buffer.from(await running.provider.decrypt(sealed, context())).toString();
const isOk = (): Promise<boolean> =>
  waitFor(() => {
    return running.provider.status().healthz === "ok";
  }, OFTEN);

const seedOf = (at: number): Buffer => Buffer.from(`seed ${at}`.padEnd(32));

/** Encrypts and opens this number of seeds. */
async function useSeeds(count: number): Promise<EncryptAnswer[]> {
  await isOk();
  const sealed: EncryptAnswer[] = [];
  for (let at = 0; at < count; at++) {
    sealed.push(await running.provider.encrypt(seedOf(at), context()));
  }
  for (const [at, one] of sealed.entries()) expect(await open(one)).toBe(String(seedOf(at)));
  return sealed;
}

/** Returns how often the HSM decrypts one of these seeds during `work`. */
async function decryptionsOf(
  sealed: readonly EncryptAnswer[],
  work: () => Promise<unknown>,
): Promise<number> {
  const decrypt = hsm.decrypt.bind(hsm);
  const seeds = sealed.map(({ ciphertext }) => Buffer.from(ciphertext).toString("hex"));
  let calls = 0;
  hsm.decrypt = (request) => {
    const body = Buffer.from(request.data).toString("hex");
    if (seeds.some((seed) => seed.endsWith(body))) calls++;
    return decrypt(request);
  };
  await work();
  hsm.decrypt = decrypt;
  return calls;
}

beforeEach(() => {
  hsm = new FakeHsm();
  hsm.records = [kekRecord("kms-kek@20200101T000000Z", "old"), kekRecord("kms-kek@20210101T000000Z", "new")];
  memory = new Memory();
});

afterEach(stop);

it("the working set is decrypted after a restart, so that requests make no HSM call", async () => {
  start();
  const sealed = await useSeeds(10);
  await restart();
  await waitFor(() => workingSet.counts.prefetched === 10, OFTEN);
  for (const [at, one] of sealed.entries()) expect(await open(one)).toBe(String(seedOf(at)));
  expect(misses).toBe(0);
  expect(workingSet.counts).toMatchObject({ remembered: 10, pending: 0, failed: 0, used: 10 });
});

it("after a restart, local KEKs that were used before are unwrapped in advance", async () => {
  start({ mode: "local-kek" });
  const sealed = await useSeeds(3);
  await restart({ mode: "local-kek" });
  await waitFor(() => workingSet.counts.prefetched === 1, OFTEN);
  hsm.failure = AWAY;
  for (const [at, one] of sealed.entries()) expect(await open(one)).toBe(String(seedOf(at)));
});

it("entries whose KEK is not on the token are kept, and decrypted once it is", async () => {
  start();
  const sealed = await useSeeds(3);
  await stop();
  const [old, ...others] = hsm.records;
  hsm.records = [kekRecord("kms-kek@20220101T000000Z", "other")];
  start();
  await isOk();
  await useSeeds(1);
  expect(workingSet.counts).toMatchObject({ prefetched: 0, failed: 0, pending: 3 });
  await stop();
  expect(memory.questions).toHaveLength(4);
  hsm.records = [...(old === undefined ? [] : [old]), ...others];
  start();
  await waitFor(() => workingSet.counts.prefetched === 3, OFTEN);
  expect(await open(sealed[0] as EncryptAnswer)).toBe(String(seedOf(0)));
});

it("a failing HSM is asked rarely, and the entries are decrypted when it works again", async () => {
  start();
  const sealed = await useSeeds(10);
  await stop();
  hsm.failures.set("new", AWAY);
  hsm.readings = 0;
  start();
  const calls = await decryptionsOf(sealed, () => waitFor(() => hsm.readings >= 5, OFTEN));
  expect(calls).toBeGreaterThan(0);
  expect(calls).toBeLessThan(5);
  expect(workingSet.counts).toMatchObject({ prefetched: 0, failed: 0, pending: 10 });
  hsm.failures.clear();
  await waitFor(() => workingSet.counts.prefetched === 10, OFTEN);
});

it("a restart during an outage does not forget the working set", async () => {
  start();
  await useSeeds(5);
  await stop();
  hsm.failure = AWAY;
  start();
  await waitFor(() => running.outage.reason !== undefined, OFTEN);
  await restart();
  expect(memory.questions).toHaveLength(5);
  hsm.failure = undefined;
  await waitFor(() => workingSet.counts.prefetched === 5, OFTEN);
});

it("a planted entry changes no answer, and what does not authenticate is dropped", async () => {
  start();
  const [one, other] = (await useSeeds(2)) as [EncryptAnswer, EncryptAnswer];
  await stop();
  const spoilt = Buffer.from(one.ciphertext);
  spoilt[spoilt.length - 1] = (spoilt.at(-1) ?? 0) ^ 1;
  const planted: DecryptQuestion[] = [
    { ...one, ciphertext: spoilt },
    { ...one, keyId: "old" },
    { ...one, annotations: { "local-kek.kms-pkcs11.dev": other.ciphertext } },
    {
      keyId: "new",
      ciphertext: Buffer.alloc(0),
      annotations: { "local-kek.kms-pkcs11.dev": one.ciphertext },
    },
    { keyId: "new", ciphertext: Buffer.alloc(0), annotations: {} },
    { keyId: "new", ciphertext: Buffer.alloc(5_000, 1), annotations: {} },
    { keyId: "nowhere", ciphertext: one.ciphertext, annotations: {} },
  ];
  memory.questions = [...planted, ...memory.questions];
  start();
  await waitFor(() => workingSet.counts.prefetched === 2, OFTEN);
  expect(workingSet.counts).toMatchObject({ failed: 6, pending: 1 });
  expect(await open(one)).toBe(String(seedOf(0)));
  expect(await open(other)).toBe(String(seedOf(1)));
  for (const wrong of planted) await expect(open(wrong)).rejects.toThrow();
});

it("prefetch fills the cache with the most recently used entries, and removes none", async () => {
  start();
  await useSeeds(10);
  await restart({ entries: 4 });
  await waitFor(() => workingSet.counts.prefetched === 4, OFTEN);
  const names = memory.questions.slice(0, 4).map(({ ciphertext }) => Buffer.from(ciphertext).toString("hex"));
  const cached = [...running.cache.seeds()].map(({ question }) =>
    Buffer.from(question.ciphertext).toString("hex"),
  );
  expect(new Set(cached)).toEqual(new Set(names));
});

it("entries are renewed before they expire, and dropped within their TTL if the KEK refuses", async () => {
  start({ ttlMs: 1_500 });
  const [one] = (await useSeeds(1)) as [EncryptAnswer];
  // On a busy machine an entry may expire before its renewal; the next use puts it into the cache again.
  await waitFor(async () => {
    const before = misses;
    expect(await open(one)).toBe(String(seedOf(0)));
    return workingSet.counts.renewed >= 3 && misses === before;
  }, OFTEN);
  hsm.broken.add("new");
  await waitFor(() => running.cache.size === 0, OFTEN);
  expect(workingSet.counts.renewalsFailed).toBeGreaterThan(0);
  await expect(open(one)).rejects.toThrow("broken");
});

it("entries outlive an outage many times as long as their TTL, and are renewed after it", async () => {
  start({ ttlMs: 400, outageTtlMs: 60_000 });
  const sealed = await useSeeds(5);
  hsm.failure = AWAY;
  await waitFor(() => running.outage.seconds > 1.2, OFTEN);
  for (const [at, one] of sealed.entries()) expect(await open(one)).toBe(String(seedOf(at)));
  const { renewed } = workingSet.counts;
  hsm.failure = undefined;
  await waitFor(() => workingSet.counts.renewed >= renewed + 5, OFTEN);
  for (const [at, one] of sealed.entries()) expect(await open(one)).toBe(String(seedOf(at)));
});

it("the working set forgets what is under a KEK that was removed from the token", async () => {
  start();
  await useSeeds(3);
  hsm.records = [];
  await waitFor(() => running.cache.size === 0, OFTEN);
  await stop();
  expect(memory.questions).toEqual([]);
});

it("changes of the working set are saved all the time, so that a crash loses only the last", async () => {
  start();
  await useSeeds(3);
  await waitFor(() => memory.questions.length === 3, OFTEN);
  expect(workingSet.counts.remembered).toBe(3);
});

it("the working set saves nothing if nothing has changed", async () => {
  start();
  await useSeeds(1);
  await stop();
  hsm.failure = AWAY;
  start();
  const { saves } = memory;
  await stop();
  await stop();
  expect(memory.saves).toBe(saves);
  expect(memory.questions).toHaveLength(1);
});

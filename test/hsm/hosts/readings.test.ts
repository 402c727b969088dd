// What a reading reports about KEKs that it does not show. The test supplies the hosts' answers.

import { beforeEach, expect, it } from "vitest";

import { KmsError } from "../../../src/errors.js";
import type { ReadingHosts } from "../../../src/hsm/hosts/reading-hosts.js";
import { KeyringReadings } from "../../../src/hsm/hosts/readings.js";
import type { HostProcess } from "../../../src/hsm/hosts/host-process.js";
import { LaneSet } from "../../../src/hsm/hosts/lane-set.js";
import type { KeyringReading } from "../../../src/hsm/wire-calls.js";
import { SILENT } from "../../support/fake-hsm.js";
import { codeOf } from "../../support/faulty-token.js";
import { kekRecord } from "../../support/kek-record.js";
import { waitFor } from "../../support/wait.js";

const A = kekRecord("kms-kek", "a");
const B = kekRecord("kms-kek@20261121T100000Z", "b");

let shown: Pick<KeyringReading, "keks" | "unreadable">;
let readings: KeyringReadings;
let serving: HostProcess;
/** Number of slices that were read on the serving host. */
let slices: number;

beforeEach(() => {
  slices = 0;
  const host = { alive: true, endCause: undefined, lanes: new LaneSet() } as unknown as HostProcess;
  const hosts: ReadingHosts = {
    ready: [host],
    reason: undefined,
    configured: 1,
    serving: () => Promise.resolve(serving),
    read: () => {
      slices++;
      return Promise.resolve({ done: true, objects: 10, unreadableReason: "CKR_FUNCTION_FAILED", ...shown });
    },
    proves: () => Promise.resolve(true),
    whenReady: () => Promise.resolve(undefined),
  };
  serving = host;
  readings = new KeyringReadings(hosts, { controlTimeoutMs: 1_000, startTimeoutMs: 1_000, log: SILENT });
});

const keyIds = async (): Promise<string[]> => (await readings.read()).keks.map(({ keyId }) => keyId);

it("a KEK does not count as gone while an object cannot be read that could be before", async () => {
  shown = { keks: [A, B], unreadable: 0 };
  expect(await keyIds()).toEqual(["a", "b"]);
  shown = { keks: [A], unreadable: 1 };
  expect(await codeOf(readings.read())).toBe("HSM_UNAVAILABLE");
  shown = { keks: [A], unreadable: 0 };
  expect(await keyIds()).toEqual(["a"]);
});

/** Has the serving host start, and show `keks` when it is read. */
async function startServing(keks: (typeof shown)["keks"]): Promise<void> {
  shown = { keks: [B], unreadable: 0 };
  const control = (): Promise<object> =>
    Promise.resolve({ done: true, objects: 1, unreadable: 0, unreadableReason: "", keks });
  Object.assign(serving, { control });
  await readings.readFirst(serving, (_step, work) => work());
}

it("a host's reading at its start answers who asked before it, and nobody who asks later", async () => {
  const since = performance.now();
  await startServing([A]);
  const { keks, beganAt } = await readings.read(performance.now() - since);
  expect([keks, slices]).toEqual([[A], 0]);
  expect(beganAt).toBeGreaterThanOrEqual(since);
  expect([await keyIds(), slices]).toEqual([["b"], 1]);
});

it("the reading of a starting host counts no more once the names of the KEKs are replaced", async () => {
  await startServing([A]);
  readings.forgetFirst();
  expect((await readings.read(60_000)).keks).toEqual([B]);
});

/** Reads first on a host whose readings return `answers` in turn; the last answer is repeated. */
async function readFirst(...answers: (typeof shown)[]): Promise<{ keyIds: string[]; count: number }> {
  let count = 0;
  const host = {
    lanes: new LaneSet(),
    control: () => {
      const answer = answers[Math.min(count++, answers.length - 1)];
      return Promise.resolve({ done: true, objects: 10, unreadableReason: "CKR_FUNCTION_FAILED", ...answer });
    },
  } as unknown as HostProcess;
  const keks = await readings.readFirst(host, (_step, work) => work());
  return { keyIds: keks.map(({ keyId }) => keyId), count };
}

it("the first reading is repeated while an object cannot be read", async () => {
  const partial = { keks: [A], unreadable: 1 };
  const whole = { keks: [A, B], unreadable: 0 };
  expect(await readFirst(partial, whole)).toEqual({ keyIds: ["a", "b"], count: 2 });
});

it("the first reading is believed after two repetitions if an object still cannot be read", async () => {
  const partial = { keks: [A], unreadable: 1 };
  expect(await readFirst(partial)).toEqual({ keyIds: ["a"], count: 3 });
});

it("an object that can never be read does not hide that KEKs come and go", async () => {
  shown = { keks: [A], unreadable: 1 };
  expect(await keyIds()).toEqual(["a"]);
  expect(readings.finding).toContain("1 of 10 secret keys on the token cannot be read: CKR_FUNCTION_FAILED");
  shown = { keks: [B], unreadable: 1 };
  expect(await keyIds()).toEqual(["b"]);
});

interface View {
  readonly openedAt: number;
  /** What its readings show, the last of these again and again; a reading of a host without any ends it. */
  readonly keks: KeyringReading["keks"][];
  /** Whether it starts when another host has been killed; each successor needs one more to have been killed. */
  readonly isSuccessor?: boolean;
}

/** Hosts in the order in which they serve. */
function hostsShowing(...views: View[]): {
  readonly readings: KeyringReadings;
  readonly killed: number[];
} {
  const killed: number[] = [];
  const all = views.map(({ openedAt, keks, isSuccessor = false }) => {
    const kill = (cause: string): void => {
      killed.push(openedAt);
      Object.assign(host, { alive: false, endCause: cause });
    };
    const host = {
      alive: true,
      endCause: undefined,
      lanes: new LaneSet(),
      openedAt,
      keks,
      isSuccessor,
      kill,
    };
    return host;
  });
  const successors = all.filter(({ isSuccessor }) => isSuccessor);
  const ready = (): HostProcess[] =>
    all.filter(
      (host) => host.alive && (!host.isSuccessor || killed.length > successors.indexOf(host)),
    ) as unknown as HostProcess[];
  const hosts: ReadingHosts = {
    get ready() {
      return ready();
    },
    reason: undefined,
    configured: 2,
    serving: () => Promise.resolve(ready()[0] as HostProcess),
    read: (one) => {
      const { keks } = one as unknown as (typeof all)[number];
      const shows = keks.length > 1 ? keks.shift() : keks[0];
      if (shows !== undefined) {
        return Promise.resolve({
          done: true,
          objects: 10,
          unreadable: 0,
          unreadableReason: "",
          keks: shows,
        });
      }
      one.kill("device");
      return Promise.reject(new KmsError("HSM_UNAVAILABLE", "the host has ended"));
    },
    proves: () => Promise.resolve(true),
    whenReady: (wanted) => Promise.resolve(ready().find(wanted)),
  };
  const options = { controlTimeoutMs: 1_000, startTimeoutMs: 1_000, log: SILENT };
  return { readings: new KeyringReadings(hosts, options), killed };
}

it("of two hosts that show different keys, the one that loaded its library first is replaced", async () => {
  const serving = hostsShowing({ openedAt: 1, keks: [[]] }, { openedAt: 2, keks: [[A]] });
  await serving.readings.read();
  await waitFor(() => serving.killed.length > 0);
  const warm = hostsShowing({ openedAt: 4, keks: [[A]] }, { openedAt: 3, keks: [[]] });
  await warm.readings.read();
  await waitFor(() => warm.killed.length > 0);
  expect([serving.killed, warm.killed]).toEqual([[1], [3]]);
});

it("a serving host that has meanwhile found the same keys as a later one stays", async () => {
  const { readings: made, killed } = hostsShowing(
    { openedAt: 1, keks: [[A], [A, B]] },
    { openedAt: 2, keks: [[A, B]] },
  );
  await made.read();
  expect((await made.read()).keks.map(({ keyId }) => keyId)).toEqual(["a", "b"]);
  expect(killed).toEqual([]);
});

/** After any reload that a test makes. */
const LATER = 1e15;

it("a reading with a reloaded library is never made on a host from before", async () => {
  const { readings: made, killed } = hostsShowing(
    { openedAt: 1, keks: [[]] },
    { openedAt: 2, keks: [[]] },
    { openedAt: LATER, keks: [], isSuccessor: true },
  );
  expect(await codeOf(made.readReloaded())).toBe("HSM_UNAVAILABLE");
  expect(killed).toEqual([2, LATER]);
});

it("a host that loaded the library before the reload is replaced, even if ready after it", async () => {
  const { readings: made, killed } = hostsShowing(
    { openedAt: 1, keks: [[A]] },
    { openedAt: 2, keks: [[A]] },
    { openedAt: 3, keks: [[A]], isSuccessor: true },
    { openedAt: LATER, keks: [[A, B]], isSuccessor: true },
  );
  expect((await made.readReloaded()).map(({ keyId }) => keyId)).toEqual(["a", "b"]);
  expect(killed).toEqual([2, 3, 1]);
});

it("a reloaded library that shows no KEK at all is believed only if another one agrees", async () => {
  const { readings: made, killed } = hostsShowing(
    { openedAt: 1, keks: [[A], []] },
    { openedAt: 2, keks: [[A], []] },
    { openedAt: LATER, keks: [[]], isSuccessor: true },
    { openedAt: LATER + 1, keks: [[A]], isSuccessor: true },
  );
  await made.read();
  expect((await made.readReloaded()).map(({ keyId }) => keyId)).toEqual(["a"]);
  expect(killed).toContain(LATER);
});

it("a host that shows KEKs is not replaced because one reloaded library shows none", async () => {
  const { readings: made, killed } = hostsShowing(
    { openedAt: 1, keks: [[A]] },
    { openedAt: 2, keks: [[A]] },
    { openedAt: LATER, keks: [[]], isSuccessor: true },
    { openedAt: LATER + 1, keks: [[A]], isSuccessor: true },
  );
  await made.read();
  await made.readReloaded();
  expect(killed).toEqual([2, LATER]);
});

// Two SoftHSM tokens that go away and come back in every order while the provider runs on them: the first holds KEK A,
// the second A and B, and B is active. A library whose token went away shows it as empty forever.

import { renameSync } from "node:fs";
import { join } from "node:path";

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";

import { FailoverHsm } from "../../../src/hsm/failover/failover.js";
import type { EncryptAnswer, RequestContext } from "../../../src/provider/kms.js";
import { RunningProvider } from "../../../src/provider/running-provider.js";
import { SILENT } from "../../support/fake-hsm.js";
import { codeOf } from "../../support/faulty-token.js";
import { providerOptions } from "../../support/provider-options.js";
import { folderOf, SoftHsmClone } from "../../support/softhsm-clone.js";
import { createSoftHsm, type SoftHsm } from "../../support/softhsm.js";
import type { TestToken } from "../../support/token.js";
import { openToken, type OpenedToken } from "../../support/token-hsm.js";
import { waitFor } from "../../support/wait.js";

const SEED = Buffer.from("a DEK seed of thirty-two bytes!!");
const LIMIT = { timeoutMs: 40_000 };

type Name = "first" | "second";

let second: SoftHsm;
let tokens: Record<Name, TestToken>;
let opened: Record<Name, OpenedToken>;
let running: RunningProvider;
let keyIdB: string;
let underA: EncryptAnswer;
/** Every Status answer since the last check. */
let statuses: Set<string>;
let asking: NodeJS.Timeout;

const context = (): RequestContext => ({ uid: "test", startedAt: performance.now(), cancelled: false });
const encrypt = (): Promise<EncryptAnswer> => running.provider.encrypt(SEED, context());
const decryptA = (): Promise<unknown> => running.provider.decrypt(underA, context());
const status = (): string => {
  try {
    const { healthz, keyId } = running.provider.status();
    return `${healthz} ${keyId}`;
  } catch (error) {
    return String(error);
  }
};

/** Found before the tokens are used: SoftHSM truncates the file with the label whenever it rewrites it, at a login too. */
let folders: Record<Name, string>;
const goneNow = new Set<Name>();
function takeAway(name: Name): void {
  renameSync(folders[name], join(second.folder, name));
  goneNow.add(name);
}
function bringBack(name: Name): void {
  if (goneNow.delete(name)) renameSync(join(second.folder, name), folders[name]);
}
function bringAllBack(): void {
  for (const name of [...goneNow]) bringBack(name);
}

async function start(intervalMs: number): Promise<void> {
  opened = {
    first: openToken(tokens.first, { hosts: 2, requestTimeoutMs: 10_000 }),
    second: openToken(tokens.second, { hosts: 2, requestTimeoutMs: 10_000 }),
  };
  await waitFor(() => opened.first.hsm.readyHosts + opened.second.hsm.readyHosts === 4, LIMIT);
  const members = (["first", "second"] as const).map((name) => ({ name, hsm: opened[name].hsm }));
  const requestTimeoutMs = 10_000;
  const hsm = new FailoverHsm({ members, requestTimeoutMs, log: SILENT });
  const outage = { gracePeriodMs: 600_000, onHsmLoss: "stopWrites" } as const;
  running = new RunningProvider(
    providerOptions(hsm, { intervalMs, requestTimeoutMs, outage, cache: { entries: 0 } }),
  );
  running.start();
  await waitFor(() => status().startsWith("ok"), LIMIT);
}

async function stop(): Promise<void> {
  running.stop();
  await Promise.all([opened.first.hsm.stop(200), opened.second.hsm.stop(200)]);
}

beforeAll(async () => {
  second = createSoftHsm({ label: "second" });
  const maker = openToken(second);
  await maker.hsm.generate({ label: "kms-kek@20260101T000000Z", ckaId: "0a".repeat(16), kind: "aes" });
  tokens = { first: new SoftHsmClone(second, "first"), second };
  const inTokens = (name: Name): string => folderOf(join(second.folder, "tokens"), name);
  folders = { first: inTokens("first"), second: inTokens("second") };
  await start(60_000);
  underA = await encrypt();
  await stop();
  const made = await maker.hsm.generate({
    label: "kms-kek@20260201T000000Z",
    ckaId: "0b".repeat(16),
    kind: "aes",
  });
  keyIdB = made.keyId;
  await maker.hsm.stop(200);
});
afterAll(() => {
  second.remove();
});

function watchStatus(): void {
  statuses = new Set([status()]);
  asking = setInterval(() => statuses.add(status()), 10);
}

function ignoreStatus(): void {
  clearInterval(asking);
}

const allWell = async (): Promise<void> => {
  await waitFor(encrypt, { what: "an Encrypt", ...LIMIT });
  await waitFor(() => running.outage.reason === undefined && running.readiness().ready, {
    what: "readiness",
    ...LIMIT,
  });
  await waitFor(() => opened.first.hsm.readyHosts + opened.second.hsm.readyHosts === 4, LIMIT);
};

describe("with rounds in quick succession", () => {
  beforeAll(() => start(200));
  beforeEach(watchStatus);
  afterEach(() => {
    ignoreStatus();
    bringAllBack();
  });
  afterAll(stop);

  it("readiness names the only token that holds the active KEK", () => {
    const detail = `KEK ${keyIdB}: only on second, not on first; clone it there`;
    expect(running.readiness()).toEqual({ ready: true, lines: ["ok", detail] });
    expect(running.keyring().keys).toMatchObject([
      { keyId: keyIdB, heldBy: ["second"], remarks: ["only on second, not on first; clone it there"] },
      { keyId: underA.keyId, heldBy: ["first", "second"], remarks: [] },
    ]);
  });

  it.each<[string, readonly [Name, "goes" | "returns"][]]>([
    [
      "the second",
      [
        ["second", "goes"],
        ["second", "returns"],
      ],
    ],
    [
      "the first",
      [
        ["first", "goes"],
        ["first", "returns"],
      ],
    ],
    [
      "both, the first back first",
      [
        ["second", "goes"],
        ["first", "goes"],
        ["first", "returns"],
        ["second", "returns"],
      ],
    ],
    [
      "both, the second back first",
      [
        ["first", "goes"],
        ["second", "goes"],
        ["second", "returns"],
        ["first", "returns"],
      ],
    ],
  ])("when %s, Status stays ok and all is well afterwards without a restart", async (_name, steps) => {
    const away = new Set<Name>();
    for (const [name, step] of steps) {
      if (step === "goes") takeAway(name);
      else bringBack(name);
      if (step === "goes") away.add(name);
      else away.delete(name);
      if (away.has("second")) {
        await waitFor(() => running.outage.reason !== undefined, { what: "the outage", ...LIMIT });
      } else await waitFor(encrypt, { what: "an Encrypt", ...LIMIT });
      if (away.size === 1) await waitFor(decryptA, { what: "a Decrypt by the other token", ...LIMIT });
    }
    await allWell();
    expect([...statuses]).toEqual([`ok ${keyIdB}`]);
    expect(running.keyring().keys.map(({ keyId }) => keyId)).toEqual([keyIdB, underA.keyId]);
  });
});

describe("with hardly any rounds", () => {
  beforeEach(async () => {
    await start(600_000);
    watchStatus();
  });
  afterEach(async () => {
    ignoreStatus();
    bringAllBack();
    await stop();
  });

  const flaps: [Name, Name][] = [
    ["first", "second"],
    ["second", "first"],
  ];

  it.each(flaps)(
    "the %s token serves again soon after a flap, and the %s may go next",
    async (flapping, other) => {
      const before = opened[flapping].hsm.pids;
      takeAway(flapping);
      // A host that keeps the handles of an earlier reading would continue to work: this call makes one read the token.
      expect(await opened[flapping].hsm.listKeks()).toEqual([]);
      expect(await codeOf(flapping === "first" ? decryptA() : encrypt())).toBe(
        flapping === "first" ? "done" : "HSM_UNAVAILABLE",
      );
      bringBack(flapping);
      // Hosts that did not read the token during its absence may stay; the others are replaced.
      await waitFor(
        async () => {
          const { pids } = opened[flapping].hsm;
          const areNew = !pids.some((pid) => before.includes(pid));
          return pids.length === 2 && (areNew || (await opened[flapping].hsm.listKeks()).length > 0);
        },
        { what: "hosts that show the token's KEKs", ...LIMIT },
      );
      takeAway(other);
      expect(await codeOf(decryptA())).toBe("done");
      bringBack(other);
      await waitFor(decryptA, LIMIT);
      expect([...statuses]).toEqual([`ok ${keyIdB}`]);
    },
  );

  it.each(flaps)(
    "a flap of the %s token that nobody has noticed costs no request when the %s goes",
    async (flapping, other) => {
      takeAway(flapping);
      expect(await opened[flapping].hsm.listKeks()).toEqual([]);
      bringBack(flapping);
      takeAway(other);
      expect(await codeOf(decryptA())).toBe("done");
      bringBack(other);
      await waitFor(encrypt, LIMIT);
    },
  );
});

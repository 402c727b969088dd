// The whole provider with a scripted HSM: how a failure of one KEK, of a reading or of the HSM affects Status, Encrypt
// and the other KEKs.

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import type { RequestContext } from "../../src/provider/kms.js";
import { RunningProvider, type ProviderOptions } from "../../src/provider/running-provider.js";
import { FakeHsm } from "../support/fake-hsm.js";
import { kekRecord } from "../support/kek-record.js";
import { providerOptions } from "../support/provider-options.js";
import { waitFor } from "../support/wait.js";

const AWAY = new KmsError("HSM_UNAVAILABLE", "away");
const SEED = Buffer.from("a DEK seed of thirty-two bytes!!");
const NEVER = new Promise<never>(() => undefined);

let hsm: FakeHsm;
let running: RunningProvider;

const context = (): RequestContext => ({ uid: "test", startedAt: performance.now(), cancelled: false });

function start(options: Partial<ProviderOptions> = {}): void {
  running = new RunningProvider(providerOptions(hsm, options));
  running.start();
}

const statusText = (): string => {
  try {
    return running.provider.status().healthz;
  } catch (error) {
    return KmsError.from(error).code;
  }
};
const isOk = async (): Promise<void> => {
  await waitFor(() => statusText() === "ok", { what: "an ok Status", timeoutMs: 5_000, intervalMs: 5 });
};
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "done",
    (error: unknown) => KmsError.from(error).code,
  );
/** Rounds follow each other closely. */
const OFTEN = { intervalMs: 20 };

beforeEach(() => {
  hsm = new FakeHsm();
  hsm.records = [kekRecord("kms-kek@20200101T000000Z", "old"), kekRecord("kms-kek@20210101T000000Z", "new")];
});

afterEach(() => {
  running.stop();
});

it("a provider reports when Status and Encrypt last answered under each KEK", async () => {
  start();
  await waitFor(() => running.keyring().dueKeyId === "new", { timeoutMs: 5_000, intervalMs: 5 });
  expect(running.keyring()).toMatchObject({ publishedKeyId: null, answered: [] });
  expect(running.keys()).toMatchObject([{ state: "due" }, { state: "retired" }]);
  await isOk();
  expect(running.keyring().answered).toMatchObject([{ keyId: "new", encryptAt: null }]);
  await running.provider.encrypt(SEED, context());
  expect(running.keyring().answered).toEqual([
    { keyId: "new", statusAt: expect.any(String) as string, encryptAt: expect.any(String) as string },
  ]);
  expect(running.keys()).toMatchObject([{ state: "active" }, { state: "retired" }]);
});

it("a KEK that encrypts to garbage is found by the next proof, and used again once it works", async () => {
  start(OFTEN);
  await isOk();
  hsm.scrambling.add("new");
  await waitFor(() => statusText() !== "ok");
  expect(await codeOf(running.provider.encrypt(SEED, context()))).not.toBe("done");
  hsm.scrambling.clear();
  await isOk();
  expect(await codeOf(running.provider.encrypt(SEED, context()))).toBe("done");
});

it("a refused PIN is reported once, and not as an HSM that is away", async () => {
  hsm.failure = new KmsError("PIN_REFUSED", "CKR_PIN_INCORRECT; correct the PIN");
  start(OFTEN);
  await waitFor(() => running.outage.reason !== undefined, { what: "the outage" });
  const { ready, lines } = running.readiness();
  expect(ready).toBe(false);
  expect(lines).toEqual([expect.stringMatching(/^no login to the HSM for \d+ s: CKR_PIN_INCORRECT; /)]);
});

it("an outage begins if the KEK is no longer found and no reloaded library finds the token", async () => {
  start(OFTEN);
  await isOk();
  const { records } = hsm;
  hsm.records = [];
  hsm.listKeksReloaded = () => Promise.reject(AWAY);
  for (const { keyId } of records) hsm.failures.set(keyId, new KmsError("KEY_MISSING", "gone"));
  await waitFor(() => running.outage.reason === AWAY, { what: "the outage" });
  expect(statusText()).toBe("ok");
  hsm.records = records;
  hsm.failures.clear();
  await waitFor(() => running.outage.reason === undefined, { what: "its end" });
});

describe("a KEK that fails", () => {
  it("an active KEK that fails makes Status and Encrypt fail at once, without a grace period", async () => {
    start(OFTEN);
    await isOk();
    hsm.broken.add("new");
    await waitFor(() => statusText() === "KEY_UNSUITABLE", { timeoutMs: 20_000 });
    expect(await codeOf(running.provider.encrypt(SEED, context()))).toBe("KEY_UNSUITABLE");
    hsm.broken.clear();
    await isOk();
    expect(await codeOf(running.provider.encrypt(SEED, context()))).toBe("done");
  });

  it("a KEK that fails while its successor is held back makes Status fail too", async () => {
    hsm.failures.set("new", new KmsError("KEY_UNSUITABLE", "new is broken"));
    start({ ...OFTEN, memory: { load: () => ({ keyId: "old", activation: 0 }), save: () => undefined } });
    await waitFor(() => /due but not activated/.test(statusText()), { timeoutMs: 20_000 });
    hsm.broken.add("old");
    await waitFor(() => statusText() === "KEY_UNSUITABLE", { timeoutMs: 20_000 });
    expect(await codeOf(running.provider.encrypt(SEED, context()))).toBe("KEY_UNSUITABLE");
  });

  it("a KEK that fails while it is retired makes the plugin unready, and Status stays ok", async () => {
    start(OFTEN);
    await isOk();
    hsm.failures.set("old", AWAY);
    await waitFor(() => !running.readiness().ready, { timeoutMs: 20_000 });
    expect(running.readiness().lines).toEqual(["KEK old: away"]);
    expect(running.outage.reason).toBeUndefined();
    expect(statusText()).toBe("ok");
    expect(await codeOf(running.provider.encrypt(SEED, context()))).toBe("done");
  });
});

describe("a KEK that is gone from the token", () => {
  it.each(["direct", "local-kek"] as const)(
    "a KEK gone from the token is not served from memory after one reading, mode %s",
    async (mode) => {
      start({ mode });
      await isOk();
      const sealed = await running.provider.encrypt(SEED, context());
      expect(await running.provider.decrypt(sealed, context())).toEqual(SEED);
      const calls = hsm.calls;
      hsm.records = hsm.records.filter(({ keyId }) => keyId !== sealed.keyId);
      expect(await codeOf(running.provider.decrypt(sealed, context()))).toBe("done");
      expect(hsm.calls).toBe(calls);
      expect(await codeOf(running.provider.decrypt({ ...sealed, keyId: "another" }, context()))).toBe(
        "KEY_UNKNOWN",
      );
      // Only another reading shows whether it is on the token now, and a reading may not follow this soon.
      expect(await codeOf(running.provider.decrypt(sealed, context()))).not.toBe("done");
      expect([running.cache.size, running.localKeks.uses]).toEqual([0, 0]);
    },
  );
});

describe("a reading requested over HTTP", () => {
  it("a reading requested over HTTP comes soon, at a limited rate however often requested", async () => {
    start();
    await isOk();
    const before = hsm.readings;
    const firstRead = running.keyring().readAt;
    for (let asked = 0; asked < 1_000; asked++) running.keyring(true);
    expect(hsm.readings).toBe(before);
    await waitFor(() => running.keyring(true).readAt !== firstRead, { timeoutMs: 20_000, intervalMs: 5 });
    for (let asked = 0; asked < 1_000; asked++) running.keyring(true);
    expect(hsm.readings).toBe(before + 1);
  });
});

describe("an HSM", () => {
  it("an HSM that is away is checked at once after a failed request", async () => {
    start();
    await isOk();
    hsm.failure = AWAY;
    await expect(codeOf(running.provider.encrypt(SEED, context()))).resolves.toBe("HSM_UNAVAILABLE");
    await waitFor(() => running.outage.reason !== undefined, { timeoutMs: 5_000, intervalMs: 5 });
    expect(statusText()).toBe("ok");
  });

  it("an HSM that is away is checked when a local KEK cannot be wrapped", async () => {
    start({ mode: "local-kek", localKek: { maxAgeMs: 60_000, maxUses: 1 } });
    await isOk();
    hsm.failure = AWAY;
    await waitFor(
      async () => (await codeOf(running.provider.encrypt(SEED, context()))) === "HSM_UNAVAILABLE",
      {
        timeoutMs: 5_000,
      },
    );
    await waitFor(() => running.outage.reason !== undefined, { timeoutMs: 5_000, intervalMs: 5 });
  });

  it("an HSM whose keyring cannot be read while its KEKs fail makes the plugin unready", async () => {
    start(OFTEN);
    await isOk();
    hsm.failure = new KmsError("TOKEN_REFUSED", "not permitted");
    await waitFor(() => /not permitted/.test(running.readiness().lines.join()), { timeoutMs: 5_000 });
  });

  it.each(["HSM_UNAVAILABLE", "DEADLINE", "INTERNAL"] as const)(
    "an HSM that cannot be read (%s) while its KEKs work is not away; /readyz has a finding",
    async (code) => {
      start({ ...OFTEN, outage: { gracePeriodMs: 0, onHsmLoss: "stopWrites" } });
      await isOk();
      const list = hsm.listKeks.bind(hsm);
      let failed = 0;
      hsm.listKeks = () => {
        failed++;
        return Promise.reject(new KmsError(code, "no search"));
      };
      await waitFor(() => failed >= 3, { timeoutMs: 10_000, intervalMs: 5 });
      expect(running.outage.reason).toBeUndefined();
      expect(statusText()).toBe("ok");
      expect(running.readiness()).toEqual({
        ready: true,
        lines: ["ok", "the token's keys cannot be read: no search"],
      });
      expect(running.reading.failed).toBe(true);
      hsm.listKeks = list;
      await waitFor(() => running.readiness().lines.join() === "ok", { timeoutMs: 5_000, intervalMs: 5 });
    },
  );

  it("an HSM whose reading never ends is found away, and back, by proofs alone", async () => {
    start(OFTEN);
    await isOk();
    hsm.listKeks = () => NEVER;
    hsm.failure = AWAY;
    await waitFor(() => running.outage.reason !== undefined, { timeoutMs: 5_000, intervalMs: 5 });
    expect(running.readiness().ready).toBe(false);
    hsm.failure = undefined;
    await waitFor(() => running.outage.reason === undefined, { timeoutMs: 5_000, intervalMs: 5 });
    expect(running.readiness()).toEqual({ ready: true, lines: ["ok"] });
  });

  it("an HSM that could never be read is away", async () => {
    hsm.listKeks = () => Promise.reject(AWAY);
    start(OFTEN);
    await waitFor(() => running.outage.reason !== undefined, { timeoutMs: 5_000, intervalMs: 5 });
    expect(running.readiness().ready).toBe(false);
  });

  it("an HSM whose reading never ends delays no unknown key_id beyond the timeout", async () => {
    start();
    await isOk();
    hsm.listKeks = () => NEVER;
    const { ciphertext } = await running.provider.encrypt(SEED, context());
    const unknown = { keyId: "made elsewhere", ciphertext, annotations: {} };
    await expect(codeOf(running.provider.decrypt(unknown, context()))).resolves.toBe("DEADLINE");
  });
});

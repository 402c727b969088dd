// Several tokens that hold clones of the KEK: which token is asked, which is refused because it is not a clone, and
// that the plugin stays available while one token comes and goes.

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { KmsError } from "../../../src/errors.js";
import { FailoverHsm } from "../../../src/hsm/failover/failover.js";
import { PATIENT_CALLER } from "../../../src/hsm/port.js";
import type { Log } from "../../../src/log.js";
import { FakeHsm, SILENT } from "../../support/fake-hsm.js";
import { FaultModule } from "../../support/fault-module.js";
import { kekRecord } from "../../support/kek-record.js";
import { createSoftHsm, type SoftHsm } from "../../support/softhsm.js";
import { openToken, type OpenedToken } from "../../support/token-hsm.js";
import { waitFor } from "../../support/wait.js";

const LABEL = "kms-kek@20260101T000000Z";
const CKA_ID = "0a".repeat(16);
const AES_GCM = 1;
const AWAY = new KmsError("HSM_UNAVAILABLE", "away");

const request = (keyId: string) => ({
  keyId,
  mechanism: AES_GCM,
  aad: Buffer.from("aad"),
  data: Buffer.from("seed"),
});

describe("on two tokens whose keys have one name and two values", () => {
  const softHsms: SoftHsm[] = [];
  const opened: OpenedToken[] = [];
  let fault: FaultModule;
  let keyIds: string[];

  beforeEach(async () => {
    keyIds = [];
    for (const label of ["first", "second"]) {
      const softHsm = createSoftHsm({ label });
      softHsms.push(softHsm);
      fault = label === "first" ? new FaultModule(softHsm) : fault;
      const token = openToken(label === "first" ? fault : softHsm);
      opened.push(token);
      keyIds.push((await token.hsm.generate({ label: LABEL, ckaId: CKA_ID, kind: "aes" })).keyId);
    }
  });

  afterEach(async () => {
    await Promise.all(opened.splice(0).map(({ hsm }) => hsm.stop(200)));
    fault.remove();
    for (const softHsm of softHsms.splice(0)) softHsm.remove();
  });

  it("the second key is refused, both key_ids are named, and it never serves for the first", async () => {
    const errors: unknown[] = [];
    const log: Log = { ...SILENT, error: (fields) => errors.push(fields) };
    const members = opened.map(({ hsm }, index) => ({ name: `token ${index + 1}`, hsm }));
    const failover = new FailoverHsm({ members, requestTimeoutMs: 1_000, log });
    const [first = "", second = ""] = keyIds;
    const records = await failover.listKeks();
    expect(records.map(({ keyId }) => keyId)).toEqual([first]);
    expect(records[0]?.remarks).toEqual([
      expect.stringMatching(new RegExp(`^not cloned to token 2.*${second}`)),
    ]);
    expect(errors).toEqual([
      { label: LABEL, token: "token 2", keyId: second, otherToken: "token 1", otherKeyId: first },
    ]);
    const body = await failover.encrypt(request(first), PATIENT_CALLER);
    fault.set("device-error");
    await expect(failover.decrypt({ ...request(first), data: body }, PATIENT_CALLER)).rejects.toMatchObject({
      code: expect.stringMatching(/^(HSM_UNAVAILABLE|DEADLINE)$/) as string,
    });
    fault.clear();
    await waitFor(() => failover.decrypt({ ...request(first), data: body }, PATIENT_CALLER), {
      what: "the first token again",
      timeoutMs: 30_000,
    });
    await failover.listKeks();
    expect(errors).toHaveLength(1);
  });
});

describe("on tokens that come and go", () => {
  const fakes: FakeHsm[] = [];
  let failover: FailoverHsm;
  let switches: string[];

  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ["performance"] });
    switches = [];
    fakes.splice(0, fakes.length, new FakeHsm(), new FakeHsm(), new FakeHsm());
    for (const fake of fakes) fake.records = [kekRecord(LABEL, "kek", { ckaId: CKA_ID })];
    const log: Log = { ...SILENT, warn: (fields) => switches.push((fields as { to: string }).to) };
    const members = fakes.map((hsm, index) => ({ name: `token ${index + 1}`, hsm }));
    failover = new FailoverHsm({ members, requestTimeoutMs: 1_000, log });
    await failover.listKeks();
  });

  afterEach(() => {
    vi.useRealTimers();
  });

  /** Returns the number of the token that answered, counted from 1. */
  async function served(): Promise<number> {
    const before = fakes.map(({ calls }) => calls);
    await failover.encrypt(request("kek"), PATIENT_CALLER);
    const asked = fakes.flatMap(({ calls }, index) => (calls === before[index] ? [] : [index + 1]));
    return asked.at(-1) ?? 0;
  }

  it("the preferred token serves; if it fails, the next one serves the same request", async () => {
    expect(await served()).toBe(1);
    fakes[0]?.broken.add("kek");
    await expect(failover.encrypt(request("kek"), PATIENT_CALLER)).rejects.toMatchObject({
      code: "KEY_UNSUITABLE",
    });
    fakes[0]?.broken.clear();
    if (fakes[0] !== undefined) fakes[0].failure = AWAY;
    expect(await served()).toBe(2);
    expect(switches).toEqual([]);
    await failover.listKeks();
    expect(switches).toEqual(["token 2"]);
  });

  it("the third token serves if the first two are known to be away", async () => {
    for (const fake of fakes.slice(0, 2)) fake.failure = AWAY;
    expect(await served()).toBe(3);
  });

  it("a token that flaps is left at once and returned to after a minute of being well", async () => {
    const [first] = fakes;
    if (first === undefined) throw new RangeError("no token");
    for (let flap = 0; flap < 5; flap++) {
      first.failure = AWAY;
      await failover.listKeks();
      first.failure = undefined;
      await failover.listKeks();
      vi.advanceTimersByTime(59_000);
      await failover.listKeks();
      expect(await served()).toBe(2);
    }
    expect(switches).toEqual(["token 2"]);
    vi.advanceTimersByTime(2_000);
    await failover.listKeks();
    expect(await served()).toBe(1);
    expect(switches).toEqual(["token 2", "token 1"]);
  });

  it("a token that fails after it has returned is left again", async () => {
    const [first, second] = fakes;
    if (first === undefined || second === undefined) throw new RangeError("no token");
    second.failure = AWAY;
    await failover.listKeks();
    expect(switches).toEqual([]);
    first.failure = AWAY;
    await failover.listKeks();
    expect(switches).toEqual(["token 3"]);
    second.failure = undefined;
    await failover.listKeks();
    expect(await served()).toBe(3);
  });

  it("keys that only one token holds do not count as gone while it is away", async () => {
    const [first] = fakes;
    if (first === undefined) throw new RangeError("no token");
    first.records = [
      ...first.records,
      kekRecord("kms-kek@20260201T000000Z", "only", { ckaId: "0b".repeat(16) }),
    ];
    const names = async (): Promise<string[]> => (await failover.listKeks()).map(({ keyId }) => keyId);
    expect(await names()).toEqual(["kek", "only"]);
    first.failure = AWAY;
    expect(await names()).toEqual(["kek", "only"]);
    await expect(failover.encrypt(request("only"), PATIENT_CALLER)).rejects.toMatchObject({
      code: "HSM_UNAVAILABLE",
    });
  });

  it("all tokens are asked within one request, which ends at its deadline if all are late", async () => {
    for (const fake of fakes.slice(0, 2)) {
      fake.encrypt = () => Promise.reject(AWAY);
    }
    expect(await served()).toBe(3);
    for (const fake of fakes) fake.encrypt = () => new Promise(() => undefined);
    const late = { ...PATIENT_CALLER, startedAt: performance.now() - 950 };
    await expect(failover.encrypt(request("kek"), late)).rejects.toMatchObject({ code: "DEADLINE" });
  });

  it("a token that is slower than the next one is left for it", async () => {
    vi.useRealTimers();
    const [first] = fakes;
    if (first === undefined) throw new RangeError("no token");
    first.gate = new Promise(() => undefined);
    expect(await served()).toBe(2);
    expect(switches).toEqual(["token 2"]);
    const { calls } = first;
    expect(await served()).toBe(2);
    expect(first.calls).toBe(calls);
  });

  it("keys that a token no longer shows count as gone only after a reloaded library agrees", async () => {
    const [first, second] = fakes;
    if (first === undefined || second === undefined) throw new RangeError("no token");
    const names = async (): Promise<string[]> => (await failover.listKeks()).map(({ keyId }) => keyId);
    for (const fake of fakes.slice(1)) fake.records = [];
    const reload = vi.spyOn(second, "listKeksReloaded").mockRejectedValue(AWAY);
    first.records = [];
    first.listKeksReloaded = () => Promise.reject(AWAY);
    expect(await names()).toEqual(["kek"]);
    reload.mockRestore();
    first.listKeksReloaded = () => first.listKeks();
    expect(await names()).toEqual([]);
  });

  it("a request for a KEK that its only token lost ends although the reloaded reading hangs", async () => {
    const [first] = fakes;
    if (first === undefined) throw new RangeError("no token");
    first.records = [...first.records, kekRecord(LABEL, "only", { ckaId: "0b".repeat(16) })];
    await failover.listKeks();
    first.failures.set("only", new KmsError("KEY_MISSING", "gone"));
    first.listKeksReloaded = () => new Promise(() => undefined);
    for (let attempt = 0; attempt < 2; attempt++) {
      await expect(failover.encrypt(request("only"), PATIENT_CALLER)).rejects.toMatchObject({
        code: "HSM_UNAVAILABLE",
      });
    }
  });

  it("a slow token does not delay the readings of the others", async () => {
    vi.useRealTimers();
    const [first] = fakes;
    if (first === undefined) throw new RangeError("no token");
    first.listKeks = () => new Promise(() => undefined);
    expect((await failover.listKeks()).map(({ keyId }) => keyId)).toEqual(["kek"]);
  });
});

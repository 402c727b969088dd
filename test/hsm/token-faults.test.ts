// Faults that an HSM library can produce, injected into real token hosts: every request ends in time, the layer
// recovers when the fault is over, and nothing but token hosts is restarted.

import { randomBytes } from "node:crypto";

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { PATIENT_CALLER, type Caller } from "../../src/hsm/port.js";
import { FaultModule, type LoggedCall } from "../support/fault-module.js";
import { openToken, type OpenedToken, type OpenOptions } from "../support/token-hsm.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { waitFor } from "../support/wait.js";

const RECOVERY = { what: "an answer after the fault", timeoutMs: 40_000, intervalMs: 20 };
const AAD = Buffer.from("aad");
const GCM = 1;

let softHsm: SoftHsm;
let fault: FaultModule;
let opened: OpenedToken | undefined;
let keyId: string;

beforeAll(async () => {
  softHsm = createSoftHsm();
  fault = new FaultModule(softHsm);
  const { hsm } = openToken(fault);
  const made = await hsm.generate({
    label: "kms-kek@20260101T000000Z",
    ckaId: "0a".repeat(16),
    kind: "auto",
  });
  keyId = made.keyId;
  await hsm.stop(500);
});

beforeEach(() => {
  fault.clear();
});

afterEach(async () => {
  fault.clear();
  await opened?.hsm.stop(500);
  opened = undefined;
});

afterAll(() => {
  fault.remove();
  softHsm.remove();
});

/** Opens the token and waits until every host has answered once. */
async function start(options: OpenOptions = {}): Promise<OpenedToken> {
  opened = openToken(fault, { requestTimeoutMs: 500, startTimeoutMs: 1_500, ...options });
  const { hsm } = opened;
  await waitFor(() => hsm.readyHosts === (options.hosts ?? 1), { what: "ready hosts", timeoutMs: 20_000 });
  await encrypt(opened);
  return opened;
}

const encrypt = ({ hsm }: OpenedToken, caller: Caller = PATIENT_CALLER): Promise<Buffer> =>
  hsm.encrypt({ keyId, mechanism: GCM, aad: AAD, data: Buffer.from("seed") }, caller);

async function roundTrip(token: OpenedToken): Promise<void> {
  const body = await encrypt(token);
  const plaintext = await token.hsm.decrypt({ keyId, mechanism: GCM, aad: AAD, data: body }, PATIENT_CALLER);
  expect(plaintext.toString()).toBe("seed");
}

const recovers = (token: OpenedToken): Promise<unknown> =>
  waitFor(() => roundTrip(token).then(() => true), RECOVERY);

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "done",
    (error: unknown) => KmsError.from(error).code,
  );

describe("a call that never returns", () => {
  it.each(["C_EncryptInit", "C_Encrypt", "C_FindObjects", "C_GetSessionInfo", "C_OpenSession"])(
    "%s: requests end in time, the host is replaced, and the next ones are served",
    async (name) => {
      const token = await start();
      fault.set(`${name} hang`, "session-loss");
      expect(await codeOf(encrypt(token))).toMatch(/DEADLINE|HSM_UNAVAILABLE/);
      fault.clear();
      await recovers(token);
      expect(token.ended.length).toBeGreaterThan(0);
    },
  );

  it.each(["C_Initialize", "C_Login"])(
    "%s at the start: the start is given up and tried again",
    async (name) => {
      fault.set(`${name} hang`);
      opened = openToken(fault, { requestTimeoutMs: 300, startTimeoutMs: 3_000 });
      const token = opened;
      await waitFor(() => token.ended.includes("hang"), { what: "a host that was ended", timeoutMs: 20_000 });
      fault.clear();
      await recovers(token);
    },
  );
});

describe("a library that crashes", () => {
  it.each([
    ["C_Encrypt", "abort"],
    ["C_EncryptInit", "segv"],
    ["C_Encrypt", "exit 3"],
  ])("in %s by %s: the request fails, the next host serves", async (name, how) => {
    const token = await start();
    fault.set(`${name} ${how}`);
    expect(await codeOf(encrypt(token))).toMatch(/HSM_UNAVAILABLE|DEADLINE/);
    fault.clear();
    await recovers(token);
  });

  it.each(["C_Initialize", "C_FindObjectsInit", "at-load"])(
    "in %s again and again: backs off, says so at once, and recovers",
    async (name) => {
      fault.set(`${name} abort`);
      opened = openToken(fault);
      const token = opened;
      await waitFor(() => token.ended.length >= 2, { what: "two crashes", timeoutMs: 20_000 });
      expect(await codeOf(encrypt(token))).toBe("HSM_UNAVAILABLE");
      expect(token.ended.length).toBeLessThan(6);
      fault.clear();
      await recovers(token);
    },
  );
});

describe("a session, login or token that goes", () => {
  it.each([
    ["session-loss"],
    ["logout"],
    ["C_Encrypt rv 0x90 count=1"],
    ["C_EncryptInit rv 0xB0 count=1"],
    ["C_EncryptInit rv 0xB3 count=1"],
    ["C_Encrypt rv 0x150 count=1"],
    ["C_EncryptInit rv 0x101 count=1"],
    ["C_EncryptInit rv 0x82 count=1"],
    ["C_EncryptInit rv 0x60 count=1"],
  ])("%s costs no request", async (line) => {
    const token = await start({ requestTimeoutMs: 2_900 });
    fault.set(line);
    await roundTrip(token);
    expect(token.ended).toEqual([]);
  });

  it.each([
    ["token-removed"],
    ["device-error"],
    ["* rv 0x190"],
    ["C_Encrypt rv 0x30"],
    ["C_EncryptInit rv 0x80001234"],
    ["C_OpenSession rv 0xB1"],
  ])("%s fails requests while it lasts, and nothing after it", async (line) => {
    const token = await start();
    fault.set(line, ...(line.startsWith("C_OpenSession") ? ["session-loss"] : []));
    await waitFor(async () => (await codeOf(encrypt(token))) !== "done", { what: "a failure" });
    fault.clear();
    await recovers(token);
  });

  it("a canary distinguishes bad input from a broken token", async () => {
    const token = await start();
    const body = await encrypt(token);
    body[body.length - 1] = (body[body.length - 1] ?? 0) ^ 1;
    const question = { keyId, mechanism: GCM, aad: AAD, data: body };
    expect(await codeOf(token.hsm.decrypt(question, PATIENT_CALLER))).toBe("NOT_AUTHENTIC");
    expect(token.ended).toEqual([]);
  });
});

/** Returns the largest number of calls in progress at the same time. */
function mostAtATime(calls: readonly LoggedCall[]): number {
  const changes = calls.flatMap(({ at, ms }) => [
    { at, by: 1 },
    { at: at + ms, by: -1 },
  ]);
  changes.sort((one, other) => one.at - other.at || one.by - other.by);
  let running = 0;
  return Math.max(0, ...changes.map(({ by }) => (running += by)));
}

describe("a slow token", () => {
  it("calls to a slow token overlap, at least eight at a time, with the right results", async () => {
    const token = await start({ requestTimeoutMs: 2_900, sessions: 16 });
    fault.set("* sleep 2", "log C_EncryptInit C_Encrypt C_DecryptInit C_Decrypt");
    const call = async (): Promise<void> => {
      const data = randomBytes(32);
      const body = await token.hsm.encrypt({ keyId, mechanism: GCM, aad: AAD, data }, PATIENT_CALLER);
      const back = await token.hsm.decrypt({ keyId, mechanism: GCM, aad: AAD, data: body }, PATIENT_CALLER);
      expect(back.equals(data)).toBe(true);
    };
    const sixteen = (): Promise<unknown> => Promise.all(Array.from({ length: 16 }, call));
    await waitFor(async () => (await sixteen(), token.hsm.sessions === 16), {
      what: "sixteen sessions",
      timeoutMs: 40_000,
    });
    for (let round = 0; round < 10; round++) await sixteen();
    expect(mostAtATime(fault.log())).toBeGreaterThanOrEqual(8);
  });
});

// Faults that an HSM library can produce, injected into real token hosts: every request ends in time, the layer
// recovers when the fault is over, and nothing but token hosts is restarted.

import { randomBytes } from "node:crypto";

import { describe, expect, it } from "vitest";

import { PATIENT_CALLER } from "../../src/hsm/port.js";
import type { LoggedCall } from "../support/fault-module.js";
import { codeOf, PLAINTEXT, useFaultyToken } from "../support/faulty-token.js";
import { waitFor } from "../support/wait.js";

const AAD = Buffer.from("aad");
const GCM = 1;
/** Longer than a request takes on a busy machine, so that only a fault can end it. */
const PATIENT = { requestTimeoutMs: 10_000 };

const token = useFaultyToken();

describe("a call that never returns", () => {
  it.each(["C_EncryptInit", "C_Encrypt", "C_FindObjects", "C_GetSessionInfo", "C_OpenSession"])(
    "a hang in %s: requests end in time, the host is replaced, the next ones are served",
    async (name) => {
      const opened = await token.start({ requestTimeoutMs: 1_000 });
      token.fault.set(`${name} hang`, "session-loss");
      expect(await codeOf(token.encrypt(opened))).toMatch(/DEADLINE|HSM_UNAVAILABLE/);
      token.fault.clear();
      await token.recovers(opened);
      expect(opened.ended.length).toBeGreaterThan(0);
    },
  );

  it.each(["C_Initialize", "C_Login"])(
    "a hang in %s at the start: the start is given up and tried again",
    async (name) => {
      token.fault.set(`${name} hang`);
      const opened = token.open({ startTimeoutMs: 3_000 });
      await waitFor(() => opened.ended.includes("hang"), {
        what: "a host that was ended",
        timeoutMs: 20_000,
      });
      token.fault.clear();
      await token.recovers(opened);
    },
  );
});

describe("a library that crashes", () => {
  it.each([
    ["C_Encrypt", "abort"],
    ["C_EncryptInit", "segv"],
    ["C_Encrypt", "exit 3"],
  ])("a crash in %s by %s: the request fails, the next host serves", async (name, how) => {
    const opened = await token.start();
    token.fault.set(`${name} ${how}`);
    expect(await codeOf(token.encrypt(opened))).toMatch(/HSM_UNAVAILABLE|DEADLINE/);
    token.fault.clear();
    await token.recovers(opened);
  });

  it.each(["C_Initialize", "C_FindObjectsInit", "at-load"])(
    "a repeated crash in %s: starts back off, requests fail at once, and it recovers",
    async (name) => {
      token.fault.set(`${name} abort`);
      const opened = token.open({ requestTimeoutMs: 1_000 });
      await waitFor(() => opened.ended.length >= 2, { what: "two crashes", timeoutMs: 20_000 });
      expect(await codeOf(token.encrypt(opened))).toBe("HSM_UNAVAILABLE");
      expect(opened.ended.length).toBeLessThan(6);
      token.fault.clear();
      await token.recovers(opened);
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
    const opened = await token.share(PATIENT);
    token.fault.set(line);
    expect((await token.decrypt(opened, await token.encrypt(opened))).equals(PLAINTEXT)).toBe(true);
    expect(opened.ended).toEqual([]);
  });

  it.each([
    ["token-removed"],
    ["device-error"],
    ["* rv 0x190"],
    ["C_Encrypt rv 0x30"],
    ["C_EncryptInit rv 0x80001234"],
    ["C_OpenSession rv 0xB1"],
  ])("%s fails requests while it lasts, and nothing after it", async (line) => {
    const opened = await token.share({ requestTimeoutMs: 1_000 });
    token.fault.set(line, ...(line.startsWith("C_OpenSession") ? ["session-loss"] : []));
    await waitFor(async () => (await codeOf(token.encrypt(opened))) !== "done", { what: "a failure" });
    token.fault.clear();
    await token.recovers(opened);
  });

  it("a canary distinguishes bad input from a broken token", async () => {
    const opened = await token.share(PATIENT);
    const body = await token.encrypt(opened);
    body[body.length - 1] = (body[body.length - 1] ?? 0) ^ 1;
    expect(await codeOf(token.decrypt(opened, body))).toBe("NOT_AUTHENTIC");
    expect(opened.ended).toEqual([]);
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
    const { hsm } = await token.start({ ...PATIENT, sessions: 16 });
    const { keyId } = token;
    token.fault.set("* sleep 2", "log C_EncryptInit C_Encrypt C_DecryptInit C_Decrypt");
    const call = async (): Promise<void> => {
      const data = randomBytes(32);
      const body = await hsm.encrypt({ keyId, mechanism: GCM, aad: AAD, data }, PATIENT_CALLER);
      const back = await hsm.decrypt({ keyId, mechanism: GCM, aad: AAD, data: body }, PATIENT_CALLER);
      expect(back.equals(data)).toBe(true);
    };
    const sixteen = (): Promise<unknown> => Promise.all(Array.from({ length: 16 }, call));
    await waitFor(async () => (await sixteen(), hsm.sessions === 16), {
      what: "sixteen sessions",
      timeoutMs: 40_000,
    });
    for (let round = 0; round < 10; round++) await sixteen();
    expect(mostAtATime(token.fault.log())).toBeGreaterThanOrEqual(8);
  });
});

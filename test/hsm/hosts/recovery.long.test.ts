// How the HSM layer recovers: retries are bounded, a session is not used again after an error, hosts that die
// repeatedly are restarted after increasing pauses, and a token that was away or reinitialised is used again without a
// restart of the plugin.

import { describe, expect, it } from "vitest";

import { PATIENT_CALLER } from "../../../src/hsm/port.js";
import { codeOf, PLAINTEXT, useFaultyToken, type FaultyToken } from "../../support/faulty-token.js";
import { FaultModule } from "../../support/fault-module.js";
import { createNss } from "../../support/nss.js";
import { Pkcs11Client } from "../../support/pkcs11-client.js";
import { createSoftHsm } from "../../support/softhsm.js";
import { openToken } from "../../support/token-hsm.js";
import { waitFor } from "../../support/wait.js";

const LIMIT = { timeoutMs: 20_000 };
/** Longer than a request takes on a busy machine: none is late, so none is hedged or ends at its deadline. */
const PATIENT_MS = 20_000;
const token = useFaultyToken();

/** The CKR code, the result of the request, and the maximum number of calls that it may cost. */
type EveryTime = readonly [string, string, number];

async function endsAfter(on: FaultyToken, [rv, code, most]: EveryTime): Promise<void> {
  const opened = await on.share({ hosts: 2, requestTimeoutMs: PATIENT_MS });
  on.fault.set(`C_Encrypt rv ${rv}`, "log C_Encrypt");
  const { pids } = opened.hsm;
  expect(await codeOf(on.encrypt(opened))).toBe(code);
  const calls = on.fault.log().filter(({ rv: answered }) => answered === Number(rv));
  expect(calls.filter(({ pid }) => pids.includes(pid)).length).toBeLessThanOrEqual(most);
  on.fault.clear();
  await on.recovers(opened);
}

describe("a code that comes every time", () => {
  it.each<EveryTime>([
    ["0xB0", "SESSION_LOST", 2],
    ["0xB3", "SESSION_LOST", 2],
    ["0x90", "SESSION_LOST", 2],
    ["0x150", "SESSION_LOST", 2],
    ["0x101", "SESSION_LOST", 2],
    ["0x82", "KEY_MISSING", 2],
    ["0x60", "KEY_MISSING", 2],
    ["0x30", "HSM_UNAVAILABLE", 2],
    ["0x190", "HSM_UNAVAILABLE", 2],
    ["0x201", "HSM_UNAVAILABLE", 2],
    ["0x68", "KEY_UNSUITABLE", 1],
    ["0x70", "MECHANISM_UNSUPPORTED", 1],
  ])("on SoftHSM, %s ends the request with %s after at most %i calls", (...row) => endsAfter(token, row));
});

describe("the same on NSS softokn", () => {
  const nss = useFaultyToken("aes", createNss);

  it.each<EveryTime>([
    ["0xB3", "SESSION_LOST", 2],
    ["0x101", "SESSION_LOST", 2],
    ["0x82", "KEY_MISSING", 2],
    ["0x30", "HSM_UNAVAILABLE", 2],
  ])("on NSS, %s ends the request with %s after at most %i calls", (...row) => endsAfter(nss, row));
});

it("a session is closed after an error and not used again", async () => {
  const opened = await token.start();
  // The module leaves the operation active, as many tokens do: using that session again would fail forever.
  token.fault.set("C_Encrypt rv 0x21 count=5");
  const body = await waitFor(() => token.encrypt(opened), LIMIT);
  const closed = token.fault.calls("C_CloseSession");
  expect(closed).toBeGreaterThanOrEqual(5);
  token.fault.set("C_Decrypt rv 0x40 count=5");
  await waitFor(() => token.decrypt(opened, body), LIMIT);
  expect(token.fault.calls("C_CloseSession")).toBeGreaterThanOrEqual(closed + 5);
  expect(opened.ended).toEqual([]);
});

it("a host that cannot start backs off: its starts stay few, however many requests come", async () => {
  token.fault.set("C_FindObjectsInit segv");
  const opened = token.open({ hosts: 2 });
  await waitFor(() => opened.ended.length > 0, { what: "a failed start", ...LIMIT });
  const codes = new Set<string>();
  await waitFor(() => opened.ended.length > 0, { what: "the first failed start", ...LIMIT });
  const until = performance.now() + 3_000;
  while (performance.now() < until) {
    codes.add(await codeOf(token.encrypt(opened)));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  // The first pause is 200 ms; each is twice the last and at least half of that: at most seven starts in three seconds.
  expect(opened.ended.length).toBeLessThanOrEqual(8);
  expect([...codes].filter((code) => code !== "DEADLINE")).toEqual(["HSM_UNAVAILABLE"]);
  expect(opened.hsm.state()).toMatchObject({ up: false });
  token.fault.clear();
  await token.recovers(opened);
});

it.each(["segv", "abort", "exit 1"])("a crash by %s at the library's end does no harm", async (how) => {
  const opened = await token.start({ hosts: 2 });
  token.fault.set(`at-exit ${how}`, `C_Finalize ${how}`);
  await opened.hsm.stop(500);
  expect(await codeOf(token.encrypt(opened))).toBe("STOPPING");
});

it("a crash of the serving host costs neither its request nor the next one", async () => {
  const opened = await token.start({ hosts: 2, requestTimeoutMs: PATIENT_MS });
  token.fault.set(`C_Encrypt segv once=${token.fault.path("crash")}`);
  const codes = await Promise.all(Array.from({ length: 12 }, () => codeOf(token.encrypt(opened))));
  expect(new Set(codes)).toEqual(new Set(["done"]));
  expect(await codeOf(token.encrypt(opened))).toBe("done");
  await waitFor(() => opened.hsm.readyHosts === 2, { what: "the successor", ...LIMIT });
  expect(opened.ended).toEqual(["signal"]);
});

it("a token without further sessions serves with the lanes that it has", async () => {
  token.fault.set("session-limit 2", "C_Encrypt sleep 3");
  const opened = await token.start({ requestTimeoutMs: PATIENT_MS });
  const codes = await Promise.all(Array.from({ length: 60 }, () => codeOf(token.encrypt(opened))));
  expect(new Set(codes)).toEqual(new Set(["done"]));
  // A session that is being opened counts until the token has refused it.
  await waitFor(() => opened.hsm.sessions <= 2, { what: "the refusal of a third session", ...LIMIT });
  expect(opened.ended).toEqual([]);
});

it("a reinitialised token is used with its new KEK, never under the old key_id", async () => {
  const softHsm = createSoftHsm();
  const fault = new FaultModule(softHsm);
  const { hsm } = openToken(fault, { hosts: 2, requestTimeoutMs: 400 });
  const label = "kms-kek@20260101T000000Z";
  const before = await hsm.generate({ label, ckaId: "0b".repeat(16), kind: "aes" });
  const request = (keyId: string) => ({ keyId, mechanism: 1, aad: Buffer.alloc(1), data: PLAINTEXT });
  await hsm.encrypt(request(before.keyId), PATIENT_CALLER);
  softHsm.reinitialise();
  const maker = new Pkcs11Client(softHsm);
  await maker.open();
  await maker.run(({ p11, state }) => {
    const id = Buffer.from("0b".repeat(16), "hex");
    state.makeKey({ [p11.CKA_LABEL]: "kms-kek@20260101T000000Z", [p11.CKA_ID]: id });
  });
  await maker.exit();
  const after = await waitFor(
    async () => (await hsm.listKeksReloaded()).find(({ keyId }) => keyId !== before.keyId),
    { what: "the new KEK", ...LIMIT },
  );
  expect(after).toMatchObject({ label, ckaId: before.ckaId });
  await hsm.encrypt(request(after.keyId), PATIENT_CALLER);
  expect(await codeOf(hsm.encrypt(request(before.keyId), PATIENT_CALLER))).toBe("KEY_MISSING");
  await hsm.stop(500);
  fault.remove();
  softHsm.remove();
});

it("of 10,000 requests on a slow token the queue is answered and the rest refused at once", async () => {
  const opened = await token.start({ queue: 200, requestTimeoutMs: PATIENT_MS, sessions: 4 });
  token.fault.set("C_Encrypt sleep 2");
  let longest = 0;
  const codes = await Promise.all(
    Array.from({ length: 10_000 }, () => {
      const code = codeOf(token.encrypt(opened));
      longest = Math.max(longest, opened.hsm.queueLength);
      return code;
    }),
  );
  const count = (code: string): number => codes.filter((one) => one === code).length;
  expect(longest).toBeLessThanOrEqual(200);
  expect(count("OVERLOADED")).toBeGreaterThan(9_000);
  expect(count("done")).toBeGreaterThanOrEqual(200);
  expect(count("done") + count("OVERLOADED") + count("DEADLINE")).toBe(10_000);
  expect(opened.hsm.queueLength).toBe(0);
  await token.recovers(opened);
});

it("requests whose callers have left are not sent to the token", async () => {
  const opened = await token.start({ sessions: 1, requestTimeoutMs: PATIENT_MS });
  token.fault.set("C_Encrypt sleep 50");
  // If a token seems fast, several requests are sent to it ahead. These are enough requests, each slow enough, to show
  // that it is not.
  await Promise.all(Array.from({ length: 20 }, () => token.encrypt(opened)));
  const before = token.fault.calls("C_Encrypt");
  const busy = Array.from({ length: 10 }, () => token.encrypt(opened));
  const leaving = { cancelled: false };
  const left = Array.from({ length: 50 }, () => codeOf(token.encrypt(opened, leaving)));
  leaving.cancelled = true;
  expect(new Set(await Promise.all(left))).toEqual(new Set(["CANCELLED"]));
  await Promise.all(busy);
  expect(token.fault.calls("C_Encrypt") - before).toBe(10);
});

it("a replacement host is ready without reading the keys of other applications", async () => {
  const objects = 500;
  const opened = await token.start();
  const before = opened.hsm.pids;
  token.fault.set(`foreign-objects ${objects}`, "C_GetAttributeValue sleep 10");
  const calls = token.fault.calls("C_GetAttributeValue");
  for (const pid of before) process.kill(pid, "SIGKILL");
  const isReplaced = (): boolean => opened.hsm.readyHosts === 1 && opened.hsm.pids[0] !== before[0];
  await waitFor(isReplaced, { what: "the replacement", intervalMs: 10, timeoutMs: 60_000 });
  expect(token.fault.calls("C_GetAttributeValue") - calls).toBeLessThan(objects);
  expect(await codeOf(token.encrypt(opened))).toBe("done");
});

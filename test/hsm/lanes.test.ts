// The lanes of one token host share what each of them has found, so that a slow token is asked only once; and a handle
// counts only while it denotes its key. The calls are counted, since their number is what a slow token's users wait for.

import { expect, it } from "vitest";

import { codeOf, PLAINTEXT, useFaultyToken } from "../support/faulty-token.js";
import type { OpenedToken } from "../support/token-hsm.js";
import { waitFor } from "../support/wait.js";

const SLOW = "C_Encrypt sleep 3";
const SESSIONS = 6;
const REQUESTS = 60;
const PATIENT = { requestTimeoutMs: 10_000, sessions: SESSIONS };

const token = useFaultyToken();

/** Opens the token, and waits until the host has opened all its sessions although no request waits for one. */
async function startSlow(...lines: string[]): Promise<OpenedToken> {
  token.fault.set(SLOW, ...lines);
  const opened = await token.start(PATIENT);
  await waitFor(() => opened.hsm.sessions === SESSIONS, { what: "all sessions", timeoutMs: 40_000 });
  return opened;
}

const decryptAll = (opened: OpenedToken, body: Buffer): Promise<string[]> =>
  Promise.all(Array.from({ length: REQUESTS }, () => codeOf(token.decrypt(opened, body))));

it("lanes of a slow token are opened in advance and make no search or trial of their own", async () => {
  const opened = await startSlow();
  const body = await token.encrypt(opened);
  const names = ["C_DecryptInit", "C_Decrypt", "C_EncryptInit", "C_Encrypt"] as const;
  const before = new Map(names.map((name) => [name, token.fault.calls(name)]));
  const beforeAll = token.fault.calls();
  expect(new Set(await decryptAll(opened, body))).toEqual(new Set(["done"]));
  const made = Object.fromEntries(
    names.map((name) => [name, token.fault.calls(name) - (before.get(name) ?? 0)]),
  );
  expect(made).toMatchObject({ C_DecryptInit: REQUESTS, C_Decrypt: REQUESTS });
  // Each lane checks once that the handle denotes the KEK: one call and its Init.
  expect(made["C_Encrypt"]).toBeLessThan(SESSIONS);
  expect(made["C_EncryptInit"]).toBe(made["C_Encrypt"]);
  expect(token.fault.calls() - beforeAll).toBe(2 * REQUESTS + 2 * (made["C_Encrypt"] ?? 0));
});

it("lanes that are opened later describe no token and search no slot", async () => {
  const before = ["C_GetSlotList", "C_GetTokenInfo"].map((name) => token.fault.calls(name));
  const opened = await startSlow();
  const made = ["C_GetSlotList", "C_GetTokenInfo"].map(
    (name, at) => token.fault.calls(name) - (before[at] ?? 0),
  );
  await opened.hsm.stop(200);
  token.fault.set(SLOW);
  const single = token.fault.calls("C_GetTokenInfo");
  await token.start({ ...PATIENT, sessions: 1 });
  expect(made[1]).toBe(token.fault.calls("C_GetTokenInfo") - single);
});

it("after the token has ended a session, a lane checks its handle before a result counts", async () => {
  const opened = await startSlow();
  const body = await token.encrypt(opened);
  await decryptAll(opened, body);
  const before = token.fault.calls("C_GetTokenInfo");
  token.fault.set(SLOW, "C_DecryptInit rv 0xB3 count=1");
  expect((await token.decrypt(opened, body)).equals(PLAINTEXT)).toBe(true);
  // It also makes sure that the same token is in the slot.
  expect(token.fault.calls("C_GetTokenInfo") - before).toBe(1);
  expect(opened.ended).toEqual([]);
});

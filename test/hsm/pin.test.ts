// A PIN attempt is dear: three in a row lock a token. What a wrong PIN costs over hosts and processes, and when
// none is made at all.

import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterEach, beforeEach, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { FilePinMemory } from "../../src/hsm/pin-memory.js";
import { codeOf, useFaultyToken } from "../support/faulty-token.js";
import { makeFolder } from "../support/token.js";
import type { OpenedToken, OpenOptions } from "../support/token-hsm.js";
import { waitFor } from "../support/wait.js";

const WRONG_PIN = "wrong-PIN-8642";
const token = useFaultyToken();
let folder: string;
let pinFile: string;
let stateDir: string;

beforeEach(() => {
  folder = makeFolder("pin");
  pinFile = join(folder, "pin");
  stateDir = join(folder, "state");
  writeFileSync(pinFile, WRONG_PIN);
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** As a process that starts anew: nothing but the state directory is left of the one before. */
const open = (options: OpenOptions = {}): OpenedToken =>
  token.open({ hosts: 2, pinFile, memory: new FilePinMemory(stateDir), ...options });

const refusal = (opened: OpenedToken, text: string): Promise<unknown> =>
  waitFor(
    () =>
      token.encrypt(opened).then(
        () => false,
        (error: unknown) =>
          error instanceof KmsError && error.code === "PIN_REFUSED" && error.message.includes(text),
      ),
    { what: `a refusal that says "${text}"`, timeoutMs: 20_000 },
  );

const logins = (): number => token.fault.calls("C_Login");

it("a wrong PIN costs one attempt over two hosts and three processes, and is not on the disk", async () => {
  const before = logins();
  for (let start = 0; start < 3; start++) {
    const opened = open();
    await refusal(opened, start === 0 ? "CKR_PIN_INCORRECT" : "not tried again");
    expect(opened.hsm.state()).toMatchObject({ up: false, reason: { code: "PIN_REFUSED" } });
    await opened.hsm.stop(200);
  }
  expect(logins() - before).toBe(1);
  const state = readdirSync(stateDir).map((name) => readFileSync(join(stateDir, name), "utf8"));
  expect(state).toHaveLength(1);
  for (const part of [WRONG_PIN, WRONG_PIN.slice(0, 6), Buffer.from(WRONG_PIN).toString("hex")])
    expect(state.join()).not.toContain(part);
});

it("a corrected PIN file is taken up without a restart, and its refusal forgotten", async () => {
  const opened = open();
  await refusal(opened, "CKR_PIN_INCORRECT");
  const before = logins();
  writeFileSync(pinFile, token.softHsm.pin);
  await token.recovers(opened);
  await waitFor(() => opened.hsm.readyHosts === 2, { what: "both hosts", timeoutMs: 20_000 });
  expect(logins() - before).toBe(2);
  expect(readFileSync(join(stateDir, "pin-refused.json"), "utf8").trim()).toBe("{}");
});

it("a locked token is left alone, and says so", async () => {
  const counter = token.fault.path("locked");
  writeFileSync(counter, "3\n");
  token.fault.set(`pin-counter 3 ${counter}`);
  writeFileSync(pinFile, token.softHsm.pin);
  const before = logins();
  await refusal(open(), "is locked");
  expect(logins()).toBe(before);
});

it("the last attempt is spent only by an operator who says so", async () => {
  const counter = token.fault.path("final");
  token.fault.set(`pin-counter 2 ${counter}`);
  const first = open();
  await refusal(first, "CKR_PIN_INCORRECT");
  writeFileSync(pinFile, token.softHsm.pin);
  const before = logins();
  await refusal(first, "one PIN attempt left");
  expect(logins()).toBe(before);
  await first.hsm.stop(200);
  await token.recovers(open({ allowFinalTry: true }));
});

it("flags are read before a login that follows a logout, too", async () => {
  const counter = token.fault.path("flags");
  writeFileSync(pinFile, token.softHsm.pin);
  const opened = open({ hosts: 1 });
  await token.recovers(opened);
  // Another node has spent all attempts but one.
  writeFileSync(counter, "1\n");
  token.fault.set(`pin-counter 2 ${counter}`, "logout");
  const before = logins();
  await refusal(opened, "one PIN attempt left");
  expect(logins()).toBe(before);
});

it("a missing PIN file costs no attempt, and its appearance is noticed", async () => {
  rmSync(pinFile);
  const opened = open();
  const before = logins();
  await waitFor(async () => (await codeOf(token.encrypt(opened))) === "PIN_UNREADABLE", {
    what: "an unreadable PIN",
    timeoutMs: 20_000,
  });
  expect(logins()).toBe(before);
  writeFileSync(pinFile, token.softHsm.pin);
  await token.recovers(opened);
});

// PIN attempts are scarce: three wrong ones in a row may lock a token. Counts the attempts that a wrong PIN costs over
// hosts and processes, and tests when no attempt is made.

import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import {
  correctPin,
  describePinSource,
  pinSourceStamp,
  stampShowsChange,
  type PinSource,
} from "../../../src/config/pin-source.js";
import { readPin } from "../../../src/config/read-pin.js";
import { codeOf, useFaultyToken } from "../../support/faulty-token.js";
import { makeFolder } from "../../support/token.js";
import type { OpenedToken, OpenOptions } from "../../support/token-hsm.js";
import { waitFor } from "../../support/wait.js";

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

/** Opens the token as a restarted process does: only the state directory remains. */
const open = (options: OpenOptions = {}): OpenedToken => token.open({ pinFile, stateDir, ...options });

const record = (): string => join(stateDir, "pin-refused.json");

/** Returns the recorded attempts by token. */
const recorded = (): unknown => (JSON.parse(readFileSync(record(), "utf8")) as { tokens: unknown }).tokens;

const logins = (): number => token.fault.calls("C_Login");

it("a wrong PIN costs one attempt over two hosts and three processes, and is not on the disk", async () => {
  const before = logins();
  for (let start = 0; start < 3; start++) {
    const opened = open({ hosts: 2 });
    await token.refusesPin(opened, start === 0 ? "CKR_PIN_INCORRECT" : "not tried again");
    expect(opened.hsm.state()).toMatchObject({ up: false, reason: { code: "PIN_REFUSED" } });
    await opened.hsm.stop(200);
  }
  expect(logins() - before).toBe(1);
  const files = readdirSync(stateDir, { withFileTypes: true }).filter((file) => file.isFile());
  const state = files.map(({ name }) => readFileSync(join(stateDir, name), "utf8"));
  expect(state.length).toBeGreaterThan(0);
  for (const part of [WRONG_PIN, WRONG_PIN.slice(0, 6), Buffer.from(WRONG_PIN).toString("hex")]) {
    expect(state.join()).not.toContain(part);
  }
});

it("a corrected PIN file is used without a restart, and the refusal is forgotten", async () => {
  const opened = open({ hosts: 2 });
  await token.refusesPin(opened, "CKR_PIN_INCORRECT");
  const before = logins();
  writeFileSync(pinFile, token.fault.pin);
  await token.recovers(opened);
  await waitFor(() => opened.hsm.readyHosts === 2, { what: "both hosts", timeoutMs: 20_000 });
  expect(logins() - before).toBe(2);
  expect(recorded()).toEqual({});
});

it("a locked token is reported and not tried", async () => {
  const counter = token.fault.path("locked");
  writeFileSync(counter, "3\n");
  token.fault.set(`pin-counter 3 ${counter}`);
  writeFileSync(pinFile, token.fault.pin);
  const before = logins();
  await token.refusesPin(open({ hosts: 2 }), "is locked");
  expect(logins()).toBe(before);
});

it("the last attempt is made only if the operator allows it", async () => {
  const counter = token.fault.path("final");
  token.fault.set(`pin-counter 2 ${counter}`);
  const first = open();
  await token.refusesPin(first, "CKR_PIN_INCORRECT");
  writeFileSync(pinFile, token.fault.pin);
  const before = logins();
  await token.refusesPin(first, "one PIN attempt left");
  expect(logins()).toBe(before);
  await first.hsm.stop(200);
  await token.recovers(open({ allowFinalTry: true }));
});

it("the PIN flags are also read before a login that follows a logout", async () => {
  const counter = token.fault.path("flags");
  writeFileSync(pinFile, token.fault.pin);
  const opened = open();
  await token.recovers(opened);
  // Another node has used all attempts but one.
  writeFileSync(counter, "1\n");
  token.fault.set(`pin-counter 2 ${counter}`, "logout");
  const before = logins();
  await token.refusesPin(opened, "one PIN attempt left");
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
  writeFileSync(pinFile, token.fault.pin);
  await token.recovers(opened);
});

describe("a login without an answer", () => {
  const counter = (): string => token.fault.path(`counter-${basename(folder)}`);

  it.each([
    ["silent", 2],
    ["", 1],
  ])(
    "a login without an answer is made at most twice, over hosts and processes (flags: %s)",
    async (flags, most) => {
      token.fault.set("C_Login segv after", `pin-counter 5 ${counter()} ${flags}`);
      const before = logins();
      for (let start = 0; start < 3; start++) {
        const opened = open({ hosts: 2 });
        await token.refusesPin(opened, "no clear answer");
        await opened.hsm.stop(200);
      }
      expect(logins() - before).toBe(most);
      token.fault.set(`pin-counter 5 ${counter()} ${flags}`);
      const opened = open();
      await token.refusesPin(opened, "no clear answer");
      writeFileSync(pinFile, token.fault.pin);
      await token.recovers(opened);
    },
  );

  it("a login without an answer is counted even if the plugin ends during it", async () => {
    token.fault.set("C_Login hang");
    const before = logins();
    for (let start = 0; start < 2; start++) {
      const opened = open();
      await waitFor(() => logins() - before > start, { what: "a login", timeoutMs: 20_000 });
      await opened.hsm.stop(0);
    }
    await token.refusesPin(open(), "no clear answer");
    expect(logins() - before).toBe(2);
  });

  it.each(["C_Login segv after", "C_Login rv 0x5"])(
    "a login after a single %s costs nothing",
    async (line) => {
      writeFileSync(pinFile, token.fault.pin);
      token.fault.set(`${line} once=${token.fault.path(`once-${basename(folder)}`)}`);
      await token.recovers(open());
      expect(recorded()).toEqual({});
    },
  );

  it.each(["C_Login abort", "C_Login rv 0x5"])(
    "an unanswered login is repeated during an outage (%s) if the PIN has logged in before",
    async (line) => {
      writeFileSync(pinFile, token.fault.pin);
      const opened = open({ hosts: 2 });
      await token.recovers(opened);
      token.fault.set(line);
      const before = logins();
      for (const pid of opened.hsm.pids) process.kill(pid, "SIGKILL");
      await waitFor(() => logins() - before >= 4, { what: "four logins", timeoutMs: 20_000 });
      await opened.hsm.stop(200);
      const restarted = open();
      await waitFor(() => logins() - before >= 8, { what: "four more after a restart", timeoutMs: 30_000 });
      token.fault.clear();
      await token.recovers(restarted);
    },
  );

  it("an unanswered login counts again for a PIN that was refused since it logged in", async () => {
    writeFileSync(pinFile, token.fault.pin);
    const opened = open();
    await token.recovers(opened);
    token.fault.set("C_Login rv 0xA0");
    for (const pid of opened.hsm.pids) process.kill(pid, "SIGKILL");
    await token.refusesPin(opened, "CKR_PIN_INCORRECT");
    await opened.hsm.stop(200);
    rmSync(record());
    token.fault.set("C_Login abort");
    const before = logins();
    await token.refusesPin(open({ hosts: 2 }), "no clear answer");
    expect(logins() - before).toBe(2);
  });

  it("a login without an answer does not count if the token reports that it is away", async () => {
    writeFileSync(pinFile, token.fault.pin);
    token.fault.set("C_Login rv 0x30");
    const before = logins();
    const opened = open();
    await waitFor(() => logins() - before >= 3, { what: "three logins", timeoutMs: 20_000 });
    token.fault.clear();
    await token.recovers(opened);
  });
});

it.each(["0xA3", "0xA4"])(
  "a token that refuses every PIN by %s is tried again only after the recheck interval",
  async (rv) => {
    writeFileSync(pinFile, token.fault.pin);
    token.fault.set(`C_Login rv ${rv}`);
    const before = logins();
    const opened = open({ hosts: 2 });
    await token.refusesPin(opened, "the token");
    for (let i = 0; i < 5; i++) expect(await codeOf(token.encrypt(opened))).toBe("PIN_REFUSED");
    expect(logins() - before).toBe(1);
    await opened.hsm.stop(200);
    const soon = open({ pinRecheckMs: 100 });
    await token.refusesPin(soon, "the token");
    token.fault.clear();
    await token.recovers(soon);
  },
);

it("a running host that is logged out does not log in for each request", async () => {
  writeFileSync(pinFile, token.fault.pin);
  const opened = open();
  await token.recovers(opened);
  token.fault.set("logout", "C_Login rv 0xA4");
  const before = logins();
  for (let i = 0; i < 5; i++) expect(await codeOf(token.encrypt(opened))).toBe("PIN_REFUSED");
  expect(logins() - before).toBe(1);
});

it.each<[string, () => PinSource]>([
  ["an environment variable", () => ({ kind: "env", name: "PIN" })],
  ["a systemd credential", () => ({ kind: "credential", path: pinFile })],
])(
  "%s is tried once, and again when it holds another PIN or its record is removed",
  async (_name, sourceOf) => {
    const source = sourceOf();
    let pin = WRONG_PIN;
    // Replaces the credential, as systemd does at every start.
    const handOver = (): void => {
      rmSync(pinFile);
      writeFileSync(pinFile, pin);
    };
    const start = (): OpenedToken => {
      handOver();
      const pinSource = {
        read: () => readPin(source, { PIN: pin }),
        stamp: () => pinSourceStamp(source),
        showsChange: stampShowsChange(source),
        description: describePinSource(source),
        correction: correctPin(source),
      };
      return open({ pinSource });
    };
    const before = logins();
    for (let i = 0; i < 3; i++) {
      const opened = start();
      await token.refusesPin(opened, i === 0 ? "CKR_PIN_INCORRECT" : `remove ${record()}`);
      await opened.hsm.stop(200);
    }
    expect(logins() - before).toBe(1);
    const removed = start();
    await token.refusesPin(removed, "not tried again");
    rmSync(record());
    await waitFor(() => logins() - before === 2, { what: "another attempt" });
    await token.refusesPin(removed, "CKR_PIN_INCORRECT");
    await removed.hsm.stop(200);
    pin = token.fault.pin;
    await token.recovers(start());
  },
);

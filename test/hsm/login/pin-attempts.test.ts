// A PIN is tried only if the attempt can be recorded, and never twice with the same bytes: across rewritten files,
// restarts, sources and processes. The tests call the login gate with a token that counts logins. A new gate on the
// same state directory knows no more than a new process would.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { pinSourceStamp } from "../../../src/config/pin-source.js";
import { readPin } from "../../../src/config/read-pin.js";
import { HostFailure } from "../../../src/hsm/hosts/host-failure.js";
import { loginStores } from "../../../src/hsm/login/login-files.js";
import { LoginGate } from "../../../src/hsm/login/login-gate.js";
import { SILENT } from "../../support/fake-hsm.js";
import { codeOf } from "../../support/faulty-token.js";
import { makeFolder } from "../../support/token.js";
import { tokenDescription } from "../../support/token-description.js";

const PIN = "right-PIN-2468";
const WRONG_PIN = "wrong-PIN-8642";
const WAIT_FOR_LOCK_MS = 20_000;
const TOKEN = tokenDescription({ label: "counting", serial: "1" });
const INCORRECT = new HostFailure({
  code: "PIN_REFUSED",
  message: "the token refused the PIN (CKR_PIN_INCORRECT)",
  fault: "setup",
  pin: "wrong",
});
const NO_CLEAR_ANSWER = new HostFailure({
  code: "HSM_UNAVAILABLE",
  message: "the login failed (CKR_GENERAL_ERROR)",
  fault: "device",
  pin: "unknown",
});

let folder: string;
let pinFile: string;
let stateDir: string;
let logins: number;
/** Answers a login in place of the token. */
let answer: (pin: string) => Promise<void>;

const judge = (pin: string): Promise<void> => (pin === PIN ? Promise.resolve() : Promise.reject(INCORRECT));

beforeEach(() => {
  folder = makeFolder("pin-attempts");
  pinFile = join(folder, "pin");
  stateDir = join(folder, "state");
  writeFileSync(pinFile, WRONG_PIN);
  logins = 0;
  answer = judge;
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Returns a gate in the state in which a new process has it. */
function open(path = pinFile): LoginGate {
  const source = { kind: "file", path } as const;
  return new LoginGate({
    pin: {
      read: () => readPin(source, {}),
      stamp: () => pinSourceStamp(source),
      showsChange: true,
      description: `file ${path}`,
      correction: "correct it",
    },
    stores: loginStores(stateDir, WAIT_FOR_LOCK_MS),
    allowFinalTry: false,
    log: SILENT,
  });
}

const login = (gate: LoginGate): Promise<void> =>
  gate.login(
    () => Promise.resolve(TOKEN),
    (pin) => {
      logins++;
      return answer(pin.toString());
    },
  );

const fails = (gate: LoginGate, code: string, text: string): Promise<void> =>
  expect(login(gate)).rejects.toMatchObject({ code, message: expect.stringContaining(text) as string });

const record = (): string => join(stateDir, "pin-refused.json");

/** Replaces the file as an agent that copies a secret does: with another inode and another time. */
function replace(pin: string): void {
  writeFileSync(`${pinFile}.new`, pin);
  renameSync(`${pinFile}.new`, pinFile);
}

describe("the same bytes", () => {
  it("the same PIN bytes are not tried again although their file is rewritten twice", async () => {
    const gate = open();
    await fails(gate, "PIN_REFUSED", "CKR_PIN_INCORRECT");
    for (const text of [`${WRONG_PIN}\n`, WRONG_PIN]) {
      const { stamp } = gate;
      replace(text);
      expect(gate.mayTryAgain(stamp)).toBe(true);
      await fails(gate, "PIN_REFUSED", "not tried again");
    }
    replace(WRONG_PIN);
    await fails(open(), "PIN_REFUSED", "not tried again");
    expect(logins).toBe(1);
    replace(PIN);
    await login(open());
  });

  it("the same PIN bytes are not tried again after another wrong PIN from any source", async () => {
    const gate = open();
    await fails(gate, "PIN_REFUSED", "CKR_PIN_INCORRECT");
    replace("wrong-too");
    await fails(gate, "PIN_REFUSED", "CKR_PIN_INCORRECT");
    for (const pin of [WRONG_PIN, "wrong-too"]) {
      const other = join(folder, `other-${pin}`);
      writeFileSync(other, pin);
      await fails(open(other), "PIN_REFUSED", "not tried again");
    }
    expect(logins).toBe(2);
  });

  it("unanswered PIN bytes are still counted when their file is rewritten", async () => {
    answer = () => Promise.reject(NO_CLEAR_ANSWER);
    const gate = open();
    await fails(gate, "HSM_UNAVAILABLE", "CKR_GENERAL_ERROR");
    replace(WRONG_PIN);
    await fails(gate, "HSM_UNAVAILABLE", "CKR_GENERAL_ERROR");
    await fails(gate, "PIN_REFUSED", "no clear answer");
    replace(WRONG_PIN);
    await fails(gate, "PIN_REFUSED", "no clear answer");
    expect(logins).toBe(2);
  });

  it("accepted PIN bytes still count as accepted when their file is rewritten", async () => {
    replace(PIN);
    const gate = open();
    await login(gate);
    replace(PIN);
    answer = () => Promise.reject(NO_CLEAR_ANSWER);
    for (let attempt = 0; attempt < 4; attempt++) await fails(gate, "HSM_UNAVAILABLE", "CKR_GENERAL_ERROR");
    answer = judge;
    await login(gate);
    expect(logins).toBe(6);
  });

  it("the same PIN bytes are tried again once their record is removed", async () => {
    const gate = open();
    await fails(gate, "PIN_REFUSED", "CKR_PIN_INCORRECT");
    const { stamp } = gate;
    expect(gate.mayTryAgain(stamp)).toBe(false);
    rmSync(record());
    expect(gate.mayTryAgain(stamp)).toBe(true);
    await fails(gate, "PIN_REFUSED", "CKR_PIN_INCORRECT");
    expect(logins).toBe(2);
  });
});

describe("an attempt that cannot be recorded", () => {
  it("an unrecordable PIN attempt is not made while the state directory is a file", async () => {
    writeFileSync(stateDir, "a file where the directory should be");
    const gate = open();
    await fails(gate, "STATE_UNUSABLE", stateDir);
    await fails(gate, "STATE_UNUSABLE", stateDir);
    expect(logins).toBe(0);
    rmSync(stateDir);
    await fails(gate, "PIN_REFUSED", "CKR_PIN_INCORRECT");
    expect(logins).toBe(1);
  });

  it("an unrecordable PIN attempt is not made while the record is damaged", async () => {
    mkdirSync(stateDir);
    writeFileSync(record(), '{"version":1,"tok');
    const gate = open();
    await fails(gate, "STATE_UNUSABLE", record());
    expect(logins).toBe(0);
    rmSync(record());
    await fails(gate, "PIN_REFUSED", "CKR_PIN_INCORRECT");
  });
});

describe.skipIf(process.geteuid?.() !== 0)("on a file system that is full or read-only", () => {
  const mounts: string[] = [];

  /** Mounts a file system of 64 KiB. */
  function mount(): void {
    mkdirSync(stateDir, { mode: 0o700 });
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", stateDir]);
    mounts.push(stateDir);
  }
  const fill = (): void => {
    try {
      writeFileSync(join(stateDir, "filler"), Buffer.alloc(128 * 1024));
    } catch {
      // The file system is full now.
    }
  };
  const makeReadOnly = (): void => {
    execFileSync("mount", ["-o", "remount,ro", stateDir]);
  };
  const temporary = (): string[] => readdirSync(stateDir).filter((name) => name.endsWith(".new"));
  const HARMS: [string, () => void][] = [
    ["full", fill],
    ["read-only", makeReadOnly],
  ];

  afterEach(() => {
    for (const place of mounts.splice(0)) execFileSync("umount", ["--lazy", place]);
  });

  it.each(HARMS)("a new PIN costs no attempt at any start (%s)", async (_what, harm) => {
    mount();
    harm();
    for (let start = 0; start < 2; start++) await fails(open(), "STATE_UNUSABLE", stateDir);
    expect(logins).toBe(0);
    expect(temporary()).toEqual([]);
  });

  it.each(HARMS)("a PIN that has logged in before is tried (%s)", async (_what, harm) => {
    mount();
    replace(PIN);
    await login(open());
    harm();
    await login(open());
    expect(logins).toBe(2);
    expect(temporary()).toEqual([]);
  });

  it("a PIN that has logged in before and is refused costs one attempt (full)", async () => {
    mount();
    replace(PIN);
    await login(open());
    fill();
    answer = () => Promise.reject(INCORRECT);
    logins = 0;
    // Removing the record of the accepted PIN frees space for that of the refusal.
    await fails(open(), "PIN_REFUSED", "CKR_PIN_INCORRECT");
    for (let start = 0; start < 2; start++) await fails(open(), "PIN_REFUSED", "not tried again");
    expect(logins).toBe(1);
    expect(existsSync(join(stateDir, "pin-accepted.json"))).toBe(false);
  });
});

it("several gates that log in at once spend one attempt between them", async () => {
  answer = async () => {
    await sleep(100);
    throw INCORRECT;
  };
  const codes = await Promise.all(Array.from({ length: 4 }, () => codeOf(login(open()))));
  expect(codes).toEqual(Array.from({ length: 4 }, () => "PIN_REFUSED"));
  expect(logins).toBe(1);
});

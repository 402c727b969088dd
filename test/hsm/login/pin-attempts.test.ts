// A PIN attempt is made only where it can be recorded, and never twice with the same bytes: over rewritten files,
// restarts, sources, processes and tokens' answers.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { KmsError } from "../../../src/errors.js";
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
  folder = makeFolder("pin-attempts");
  pinFile = join(folder, "pin");
  stateDir = join(folder, "state");
  writeFileSync(pinFile, WRONG_PIN);
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const open = (options: OpenOptions = {}): OpenedToken =>
  token.open({ hosts: 2, pinFile, stateDir, ...options });
const logins = (): number => token.fault.calls("C_Login");
const record = (): string => join(stateDir, "pin-refused.json");

/** As an agent does that copies a secret: another inode and another time. */
function replace(pin: string): void {
  writeFileSync(`${pinFile}.new`, pin);
  renameSync(`${pinFile}.new`, pinFile);
}

const failure = (opened: OpenedToken, code: string, text: string): Promise<unknown> =>
  waitFor(
    () =>
      token.encrypt(opened).then(
        () => false,
        (error: unknown) => error instanceof KmsError && error.code === code && error.message.includes(text),
      ),
    { what: `${code} that says "${text}"`, timeoutMs: 30_000 },
  );

const starts = (opened: OpenedToken): number => opened.ended.length;

describe("the same bytes", () => {
  it("are not tried again when their file is rewritten, in this process or the next", async () => {
    const before = logins();
    const opened = open();
    await failure(opened, "PIN_REFUSED", "CKR_PIN_INCORRECT");
    for (let round = 0; round < 2; round++) {
      const seen = starts(opened);
      replace(`${WRONG_PIN}\n`);
      // The change is noticed: a token host is started, and finds the same PIN.
      await waitFor(() => starts(opened) > seen, { what: "another look" });
      await failure(opened, "PIN_REFUSED", "not tried again");
    }
    await opened.hsm.stop(200);
    replace(WRONG_PIN);
    const next = open();
    await failure(next, "PIN_REFUSED", "not tried again");
    expect(logins() - before).toBe(1);
    replace(token.fault.pin);
    await token.recovers(next);
  });

  it("are not tried again after another wrong PIN, from this source or another", async () => {
    const before = logins();
    const opened = open({ hosts: 1 });
    await failure(opened, "PIN_REFUSED", "CKR_PIN_INCORRECT");
    replace("wrong-too");
    await waitFor(() => logins() - before === 2, { what: "the other PIN's attempt" });
    await failure(opened, "PIN_REFUSED", "PIN");
    await opened.hsm.stop(200);
    for (const pin of [WRONG_PIN, "wrong-too"]) {
      const other = join(folder, `other-${pin}`);
      writeFileSync(other, pin);
      const again = open({ hosts: 1, pinFile: other });
      await failure(again, "PIN_REFUSED", "not tried again");
      await again.hsm.stop(200);
    }
    expect(logins() - before).toBe(2);
  });

  it("that have no clear answer count on when their file is rewritten", async () => {
    // A token that has counted a wrong PIN before would not be asked twice.
    const right = token.open({ stateDir: join(folder, "other") });
    await token.recovers(right);
    token.fault.set("C_Login rv 0x5");
    const before = logins();
    const opened = open({ hosts: 1 });
    await waitFor(() => logins() > before, { what: "the first login" });
    replace(WRONG_PIN);
    await failure(opened, "PIN_REFUSED", "no clear answer");
    const seen = starts(opened);
    replace(WRONG_PIN);
    await waitFor(() => starts(opened) > seen, { what: "another look" });
    await failure(opened, "PIN_REFUSED", "no clear answer");
    expect(logins() - before).toBe(2);
  });

  it("that have logged in are known as accepted when their file is rewritten", async () => {
    replace(token.fault.pin);
    const opened = open({ hosts: 1 });
    await token.recovers(opened);
    replace(token.fault.pin);
    token.fault.set("C_Login rv 0x5");
    const before = logins();
    for (const pid of opened.hsm.pids) process.kill(pid, "SIGKILL");
    await waitFor(() => logins() - before >= 4, { what: "four logins", timeoutMs: 30_000 });
    token.fault.clear();
    await token.recovers(opened);
  });

  it("are tried again once their record is removed", async () => {
    const opened = open({ hosts: 1 });
    await failure(opened, "PIN_REFUSED", "CKR_PIN_INCORRECT");
    const before = logins();
    rmSync(record());
    await waitFor(() => logins() > before, { what: "another attempt" });
  });
});

describe("what cannot be recorded", () => {
  const mounts: string[] = [];

  /** A file system of 64 KiB. */
  function mount(): void {
    mkdirSync(stateDir, { mode: 0o700 });
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", stateDir]);
    mounts.push(stateDir);
  }
  const remount = (flag: "ro" | "rw"): void => {
    execFileSync("mount", ["-o", `remount,${flag}`, stateDir]);
  };
  const fill = (): void => {
    try {
      writeFileSync(join(stateDir, "filler"), Buffer.alloc(128 * 1024));
    } catch {
      // It is full now.
    }
  };
  const temporary = (): string[] => readdirSync(stateDir).filter((name) => name.endsWith(".new"));

  afterEach(() => {
    for (const place of mounts.splice(0)) execFileSync("umount", ["--lazy", place]);
  });

  it("is not tried where the state directory is no directory, until it can be", async () => {
    writeFileSync(stateDir, "a file where the directory should be");
    const before = logins();
    const opened = open();
    await failure(opened, "STATE_UNUSABLE", stateDir);
    await failure(opened, "STATE_UNUSABLE", stateDir);
    expect(logins()).toBe(before);
    rmSync(stateDir);
    await failure(opened, "PIN_REFUSED", "CKR_PIN_INCORRECT");
    expect(logins() - before).toBe(1);
  });

  it("is not tried where the record is damaged", async () => {
    mkdirSync(stateDir);
    writeFileSync(record(), '{"version":1,"tok');
    const before = logins();
    const opened = open();
    await failure(opened, "STATE_UNUSABLE", record());
    expect(logins()).toBe(before);
    rmSync(record());
    await failure(opened, "PIN_REFUSED", "CKR_PIN_INCORRECT");
  });

  describe.skipIf(process.geteuid?.() !== 0)("on a real file system", () => {
    it.each<[string, () => void]>([
      ["full", fill],
      [
        "read-only",
        () => {
          remount("ro");
        },
      ],
    ])("costs nothing where that is %s, at any start", async (_what, harm) => {
      mount();
      harm();
      const before = logins();
      for (let start = 0; start < 2; start++) {
        const opened = open();
        await failure(opened, "STATE_UNUSABLE", stateDir);
        await opened.hsm.stop(200);
      }
      expect(logins()).toBe(before);
      expect(temporary()).toEqual([]);
    });

    it.each<[string, () => void]>([
      ["full", fill],
      [
        "read-only",
        () => {
          remount("ro");
        },
      ],
    ])("is tried from a source that has logged in, where that is %s", async (_what, harm) => {
      mount();
      replace(token.fault.pin);
      const first = open({ hosts: 1 });
      await token.recovers(first);
      await first.hsm.stop(200);
      harm();
      await token.recovers(open());
      expect(temporary()).toEqual([]);
    });

    it("costs one attempt where a source that has logged in is refused and the disk is full", async () => {
      mount();
      replace(token.fault.pin);
      const first = open({ hosts: 1 });
      await token.recovers(first);
      await first.hsm.stop(200);
      fill();
      token.fault.set("C_Login rv 0xA0");
      const before = logins();
      for (let start = 0; start < 3; start++) {
        const opened = open();
        // What is removed makes room for the record of the refusal.
        await failure(opened, "PIN_REFUSED", start === 0 ? "CKR_PIN_INCORRECT" : "not tried again");
        await opened.hsm.stop(200);
      }
      expect(logins() - before).toBe(1);
      expect(existsSync(join(stateDir, "pin-accepted.json"))).toBe(false);
    });
  });
});

it("several processes that start at once spend one attempt between them", async () => {
  token.fault.set("C_Login sleep 300");
  const before = logins();
  const opened = Array.from({ length: 4 }, () => open({ hosts: 1 }));
  for (const one of opened) {
    await waitFor(async () => (await codeOf(token.encrypt(one))) === "PIN_REFUSED", {
      what: "a refusal",
      timeoutMs: 30_000,
    });
  }
  expect(logins() - before).toBe(1);
});

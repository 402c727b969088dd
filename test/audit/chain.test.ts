// The audit log's chain: what a line looks like, how a file is continued, and that whatever is changed, removed
// or moved afterwards is found, with the line.

import { createSecretKey } from "node:crypto";
import {
  appendFileSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { AuditWriter } from "../../src/audit/writer.js";
import { NO_MAC, openLine, sealLine, type AuditEvent } from "../../src/audit/line.js";
import { withLock } from "../../src/files/turn-lock.js";
import { verifyAudit, type AuditReport } from "../../src/audit/verify.js";
import { makeFolder } from "../support/token.js";

let folder: string;
let file: string;
let keyFile: string;

beforeEach(() => {
  folder = makeFolder("audit");
  file = join(folder, "log", "audit.log");
  keyFile = join(folder, "state", "audit.key");
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

const request = (uid: string): AuditEvent => ({
  event: "request",
  operation: "Decrypt",
  uid,
  keyId: "k",
  outcome: "OK",
  ms: 0.25,
  peer: "connection 1",
});
const appender = (maxBytes = 1e6, keep = 3): AuditWriter =>
  new AuditWriter({ file, keyFile, maxBytes, keep });
const append = async (log: AuditWriter, from: number, count: number): Promise<void> => {
  for (let at = from; at < from + count; at++) {
    await log.append([{ time: Date.UTC(2026, 0, 1), event: request(String(at)) }]);
  }
};
const verify = (): Promise<AuditReport> => verifyAudit({ file, keyFile });
const lines = (path = file): string[] => readFileSync(path, "utf8").trimEnd().split("\n");
const rewrite = (changed: readonly string[], path = file): void => {
  writeFileSync(path, changed.map((line) => `${line}\n`).join(""));
};
const problems = async (): Promise<string[]> =>
  (await verify()).problems.map(({ line, problem }) => `${line}: ${problem}`);

describe("a line", () => {
  const key = createSecretKey(Buffer.alloc(32, 7));
  const text =
    '{"v":1,"seq":1,"time":"2026-01-01T00:00:00.000Z","event":"request","operation":"Decrypt","uid":"ü","keyId":"k","outcome":"OK","ms":0.25,"peer":"connection 1","prev":"0000000000000000000000000000000000000000000000000000000000000000","mac":"a13a544466e28f425deaadbf7595e46968453b127b9bb4323dced789ce999dad"}';

  it("of version 1 stays as it is", () => {
    const sealed = sealLine(
      { time: Date.UTC(2026, 0, 1), event: request("ü") },
      { seq: 0, mac: NO_MAC },
      key,
    );
    expect(sealed.text).toBe(text);
    expect(openLine(Buffer.from(text), key)).toMatchObject({ seq: 1, prev: NO_MAC, mac: sealed.mac });
  });

  it("does not open with any bit of any byte changed, nor with another key", () => {
    for (let at = 0; at < Buffer.byteLength(text); at++) {
      const bytes = Buffer.from(text);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
      expect(openLine(bytes, key), String(at)).toBeUndefined();
    }
    expect(openLine(Buffer.from(text), createSecretKey(Buffer.alloc(32, 8)))).toBeUndefined();
    for (const other of ["", "{}", `${text}\r`, ` ${text}`]) {
      expect(openLine(Buffer.from(other), key)).toBeUndefined();
    }
  });
});

describe("what was done to a log", () => {
  beforeEach(async () => {
    await append(appender(), 0, 6);
  });

  it("is nothing when it is as it was written", async () => {
    const report = await verify();
    expect(report).toMatchObject({
      lines: 6,
      first: { seq: 1 },
      last: { seq: 6 },
      problems: [],
      remarks: [],
    });
    expect([file, keyFile, `${keyFile}.head`].map((path) => statSync(path).mode & 0o777)).toEqual([
      0o600, 0o600, 0o600,
    ]);
    expect(readdirSync(join(folder, "log"))).toEqual(["audit.log"]);
  });

  it.each([0, 1, 2, 3, 4, 5])("a change of line %i is found there", async (at) => {
    rewrite(
      lines().map((line, index) => (index === at ? line.replace('"outcome":"OK"', '"outcome":"KO"') : line)),
    );
    expect((await problems())[0]).toBe(`${at + 1}: was changed, or written with another key`);
  });

  it.each([1, 2, 3, 4])("the removal of line %i is found at the next", async (at) => {
    rewrite(lines().filter((_line, index) => index !== at));
    expect(await problems()).toEqual([`${at + 1}: 1 line is missing before it (number ${at + 2})`]);
  });

  it("lines that are swapped, repeated or cut off at either end are found", async () => {
    const written = lines();
    const [one = "", two = "", three = "", ...rest] = written;
    rewrite([one, three, two, ...rest]);
    expect((await problems()).join()).toMatch(/2: 1 line is missing.*3: number 2 stands after number 3/);
    rewrite([one, two, two, three, ...rest]);
    expect(await problems()).toEqual(["3: number 2 stands after number 2: moved or repeated"]);
    rewrite(written.slice(0, -2));
    expect(await problems()).toEqual([
      "0: ends at number 4, and the last one written is 6: its end was removed",
    ]);
    rewrite(written.slice(2));
    expect(await problems()).toEqual(["0: begins at number 3, and should at 1: its beginning was removed"]);
  });

  it("a removed end is found although the log was continued since", async () => {
    rewrite(lines().slice(0, -2));
    await append(appender(), 6, 2);
    expect(await problems()).toEqual(["5: the chain begins anew here: 2 lines before it were removed"]);
    unlinkSync(file);
    await append(appender(), 8, 1);
    expect((await problems()).join()).toMatch(/its beginning was removed/);
  });

  it("a line of the right form, chained with another key, is found, also by the next writer", async () => {
    const last = openLine(
      Buffer.from(lines().at(-1) ?? ""),
      createSecretKey(Buffer.from(readFileSync(keyFile, "utf8").trim(), "hex")),
    );
    const forged = sealLine(
      { time: 0, event: request("x") },
      { seq: 6, mac: last?.mac ?? "" },
      createSecretKey(Buffer.alloc(32)),
    );
    appendFileSync(file, `${forged.text}\n`);
    await append(appender(), 0, 1);
    expect(await problems()).toEqual([
      "7: was changed, or written with another key",
      "8: the chain begins anew here: the line before does not verify",
    ]);
  });

  it("without the head an end that was removed is not found, and that is said", async () => {
    rewrite(lines().slice(0, -2));
    unlinkSync(`${keyFile}.head`);
    expect(await verify()).toMatchObject({
      problems: [],
      remarks: [{ problem: expect.stringContaining("nothing is recorded") as string }],
    });
  });
});

describe("going on", () => {
  it("after a crash in the middle of a line, which is told", async () => {
    await append(appender(), 0, 3);
    appendFileSync(file, '{"v":1,"seq":4,"time":"2026');
    expect(await verify()).toMatchObject({ lines: 3, problems: [], remarks: [{ line: 4 }] });
    await append(appender(), 3, 1);
    expect(lines().map((line) => (JSON.parse(line) as { event: string }).event)).toEqual([
      "request",
      "request",
      "request",
      "recovered",
      "request",
    ]);
    expect((await verify()).problems).toEqual([]);
  });

  it("when the first line of all was cut off", async () => {
    await append(appender(), 0, 1);
    truncateSync(file, 20);
    rmSync(`${keyFile}.head`);
    await append(appender(), 0, 1);
    expect(await verify()).toMatchObject({ lines: 2, problems: [] });
  });

  it("over many rotations, whose oldest files go as told, and no other way", async () => {
    const log = appender(1000, 3);
    await append(log, 0, 10);
    // Somebody else's turn in between, in a file that has to be rotated too.
    await append(appender(1000, 3), 10, 10);
    const names = readdirSync(join(folder, "log")).sort();
    expect(names).toHaveLength(4);
    for (const name of names.slice(1)) expect(name).toMatch(/^audit\.log\.\d{12}$/);
    const report = await verify();
    expect(report.problems).toEqual([]);
    expect(report.first?.seq).toBe(Number(names[1]?.slice(-12)));
    const oldest = join(folder, "log", names[1] ?? "");
    renameSync(oldest, join(folder, "taken"));
    expect((await problems()).join()).toMatch(/its beginning was removed/);
    renameSync(join(folder, "taken"), oldest);
    unlinkSync(join(folder, "log", names[2] ?? ""));
    expect((await problems()).join()).toMatch(/lines are missing before it/);
  });

  const rotatedNames = (): string[] =>
    readdirSync(join(folder, "log"))
      .filter((name) => /\.\d+$/.test(name))
      .sort();
  const headFile = (): string => `${keyFile}.head`;

  it("a beginning that was removed is found, whatever the log itself says afterwards", async () => {
    const log = appender(1000, 5);
    await append(log, 0, 8);
    unlinkSync(join(folder, "log", rotatedNames()[0] ?? ""));
    // Other processes go on: they read the folder's listing without the oldest file.
    await append(appender(1000, 5), 8, 4);
    expect((await problems()).join()).toMatch(
      /begins at number \d+, and should at 1: its beginning was removed/,
    );
    expect((await problems()).join()).toMatch(/numbers 1 to \d+ had been removed when it was written/);
  });

  it("a beginning that was removed stays on record when retention removes the files after it", async () => {
    await append(appender(1000, 2), 0, 6);
    unlinkSync(join(folder, "log", rotatedNames()[0] ?? ""));
    await append(appender(1000, 2), 6, 4);
    expect((await problems()).join()).toMatch(/had been removed when it was written/);
  });

  it("a beginning of the first file that was removed is found", async () => {
    await append(appender(), 0, 5);
    rewrite(lines().slice(2));
    await append(appender(), 5, 1);
    expect((await problems()).join()).toMatch(/begins at number 3, and should at 1/);
  });

  it("a head of an earlier release takes the oldest number from what it finds", async () => {
    await append(appender(1000, 2), 0, 12);
    const { seq, mac } = JSON.parse(readFileSync(headFile(), "utf8")) as Record<string, unknown>;
    writeFileSync(headFile(), JSON.stringify({ seq, mac }));
    expect(await problems()).toEqual([]);
    await append(appender(1000, 2), 12, 1);
    expect(JSON.parse(readFileSync(headFile(), "utf8"))).toHaveProperty(
      "oldest",
      Number(rotatedNames()[0]?.slice(-12)),
    );
    expect(await problems()).toEqual([]);
  });

  it("files that retention could not remove yet are no fault", async () => {
    await append(appender(1000, 2), 0, 6);
    const [oldest = ""] = rotatedNames();
    const kept = readFileSync(join(folder, "log", oldest));
    await append(appender(1000, 2), 6, 6);
    expect(rotatedNames()).not.toContain(oldest);
    writeFileSync(join(folder, "log", oldest), kept);
    expect((await problems()).join()).not.toMatch(/beginning/);
  });

  it.each([
    ["the first line", 0, 999_999_999_999_999],
    ["the first line", 0, 7],
    ["the last line", -1, 999_999_999_999_999],
    ["the last line", -1, 1],
  ])(
    "a number that %s claims without the key goes into no name and no line (at %i: %i)",
    async (_which, at, seq) => {
      await append(appender(), 0, 6);
      const forged = lines();
      const index = at < 0 ? forged.length + at : at;
      forged[index] = (forged[index] ?? "").replace(/"seq":\d+/, `"seq":${seq}`);
      rewrite(forged);
      await append(appender(1000, 20), 6, 12);
      for (const name of rotatedNames()) {
        expect(name).toMatch(/^audit\.log\.\d{12}$/);
        expect(Number(name.slice(-12))).toBeLessThan(100);
      }
      const report = await verify();
      expect(report.files).toHaveLength(rotatedNames().length + 1);
      expect(report.last?.seq).toBeLessThan(100);
      expect(report.problems.map(({ problem }) => problem).join()).toMatch(
        /was changed, or written with another key/,
      );
    },
  );

  it("files with numbers that no line has had take no other file's place, and are found", async () => {
    await append(appender(1000, 3), 0, 3);
    for (const number of ["000999999999", "999999999999", "999999999999999"]) {
      writeFileSync(`${file}.${number}`, "forged\n");
    }
    const genuine = rotatedNames()[0] ?? "";
    await append(appender(1000, 3), 3, 1);
    expect(rotatedNames()).toContain(genuine);
    expect((await verify()).problems.filter(({ problem }) => problem.includes("another key"))).toHaveLength(
      3,
    );
  });

  it("no file is continued that has another name, is another user's, or is no file", async () => {
    await append(appender(), 0, 1);
    const target = join(folder, "target");
    writeFileSync(target, "");
    rmSync(file);
    linkSync(target, file);
    await expect(append(appender(), 1, 1)).rejects.toThrow(/has 2 names \(hard links\); .* move it first/);
    expect(readFileSync(target, "utf8")).toBe("");
    rmSync(file);
    mkdirSync(file);
    await expect(append(appender(), 1, 1)).rejects.toThrow();
    rmSync(file, { recursive: true });
    if (process.getuid?.() !== 0) return;
    writeFileSync(file, "");
    chownSync(file, 4242, 4242);
    await expect(append(appender(), 1, 1)).rejects.toThrow(/belongs to user 4242/);
  });

  it("when the process ended between rotating and writing", async () => {
    await append(appender(), 0, 3);
    renameSync(file, `${file}.000000000001`);
    await append(appender(), 3, 1);
    expect(await verify()).toMatchObject({ lines: 5, problems: [] });
    expect(lines()[0]).toContain('"event":"rotated","from":"audit.log.000000000001","oldest":1');
  });

  it("for several writers at once, in one chain", async () => {
    const writers = Array.from({ length: 6 }, (_, at) => append(appender(4000, 1000), at * 100, 15));
    await Promise.all(writers);
    const report = await verify();
    expect(report.problems).toEqual([]);
    const texts = report.files.flatMap((path) => lines(path));
    expect(texts.filter((line) => line.includes('"event":"request"'))).toHaveLength(90);
  });

  it("past a lock that a crash left behind, and not past one that is held", async () => {
    await append(appender(), 0, 1);
    const lock = `${file}.lock`;
    writeFileSync(lock, "");
    const waiting = append(appender(), 1, 1);
    expect(existsSync(lock)).toBe(true);
    expect(lines()).toHaveLength(1);
    utimesSync(lock, 0, 0);
    await waiting;
    expect(lines()).toHaveLength(2);
    expect(existsSync(lock)).toBe(false);
  });

  it("and a lock that cannot be given back fails nothing that was done under it", async () => {
    const parent = join(folder, "gone");
    mkdirSync(parent);
    const done = withLock(join(parent, "lock"), 0, () => {
      rmSync(parent, { recursive: true });
      writeFileSync(parent, "");
      return Promise.resolve("done");
    });
    await expect(done).resolves.toBe("done");
  });

  it("refuses a key that is damaged or open to others, and a file that is no log", async () => {
    await append(appender(), 0, 1);
    const key = readFileSync(keyFile);
    writeFileSync(keyFile, "abc");
    await expect(append(appender(), 1, 1)).rejects.toThrow(/is no audit key/);
    rmSync(keyFile);
    writeFileSync(keyFile, key, { mode: 0o644 });
    await expect(append(appender(), 1, 1)).rejects.toThrow(/chmod 600/);
    await expect(verify()).rejects.toThrow(/chmod 600/);
    rmSync(keyFile);
    writeFileSync(keyFile, key, { mode: 0o600 });
    writeFileSync(file, "x".repeat(100_000));
    await expect(append(appender(), 1, 1)).rejects.toThrow(/is no audit log/);
  });
});

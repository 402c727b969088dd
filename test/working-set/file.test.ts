// The file of the working set in the state directory, also if it is damaged or is not a file.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterEach, beforeEach, expect, it } from "vitest";

import type { DecryptQuestion } from "../../src/provider/kms.js";
import { WorkingSetFile } from "../../src/working-set/file.js";
import { SILENT } from "../support/fake-hsm.js";
import { makeFolder } from "../support/token.js";

let folder: string;
let path: string;
let warnings: string[];

const log = {
  ...SILENT,
  warn: (_facts: object, message: string) => {
    warnings.push(message);
  },
};
const open = (): WorkingSetFile => new WorkingSetFile(join(folder, "state"), log);
const questions: DecryptQuestion[] = ["one", "two"].map((text) => ({
  keyId: "01.k",
  ciphertext: Buffer.from(text),
  annotations: {},
}));

beforeEach(() => {
  folder = makeFolder("working-set");
  path = join(folder, "state", "working-set");
  warnings = [];
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

it("the working set is read back from a file that only the plugin's user can read", async () => {
  expect(open().load()).toEqual([]);
  expect(await open().save(questions)).toBe(2);
  expect(await open().save(questions.slice(1))).toBe(1);
  expect(open().load()).toEqual(questions.slice(1));
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(statSync(join(folder, "state")).mode & 0o777).toBe(0o700);
  expect(readdirSync(join(folder, "state"))).toEqual(["working-set"]);
  expect(warnings).toEqual([]);
});

it.each<[string, () => void]>([
  [
    "cut off",
    () => {
      writeFileSync(path, Buffer.of(1, 2, 3));
    },
  ],
  [
    "empty",
    () => {
      writeFileSync(path, "");
    },
  ],
  [
    "too long",
    () => {
      writeFileSync(path, Buffer.alloc(5 << 20, 1));
    },
  ],
  [
    "of another version",
    () => {
      writeFileSync(path, Buffer.alloc(50, 2));
    },
  ],
  [
    "a pipe",
    () => {
      execFileSync("mkfifo", [path]);
    },
  ],
  [
    "a folder",
    () => {
      mkdirSync(path);
    },
  ],
])("a file that is %s is set aside with one warning, and the next save succeeds", async (_what, spoil) => {
  mkdirSync(join(folder, "state"));
  spoil();
  const file = open();
  expect(file.load()).toEqual([]);
  expect(warnings).toEqual([
    "the stored working set cannot be used; this start decrypts no seeds in advance",
  ]);
  expect(existsSync(`${path}.damaged`)).toBe(true);
  expect(await file.save(questions)).toBe(2);
  expect(open().load()).toEqual(questions);
  expect(warnings).toHaveLength(1);
});

it("a folder that cannot be written is logged once, and leaves no draft", async () => {
  writeFileSync(join(folder, "state"), "not a folder");
  const file = open();
  expect(await file.save(questions)).toBeUndefined();
  expect(await file.save(questions)).toBeUndefined();
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toMatch(
    /the working set is not stored: .*\((ENOTDIR|EEXIST)\); set stateDir to a folder/,
  );
});

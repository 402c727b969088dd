// Files of the state directory, also if another user has replaced them.

import { execFileSync } from "node:child_process";
import { chownSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

import { afterEach, beforeEach, expect, it } from "vitest";

import { readStateFile, writeStateFile } from "../../src/files/state-file.js";
import { makeFolder } from "../support/token.js";

let folder: string;
let path: string;

beforeEach(() => {
  folder = makeFolder("state");
  path = join(folder, "state", "file.json");
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

it("the state file reads back what it wrote, in a folder that it creates", () => {
  expect(() => readStateFile(path)).toThrow("ENOENT");
  writeStateFile(path, { a: 1 });
  writeStateFile(path, { a: 2 });
  expect(readStateFile(path)).toEqual({ a: 2 });
});

it("the state file does not block on a pipe, and does not read a file that is far too long", () => {
  writeStateFile(path, {});
  rmSync(path);
  execFileSync("mkfifo", [path]);
  expect(() => readStateFile(path)).toThrow("is not a state file");
  rmSync(path);
  writeFileSync(path, " ".repeat(2_000_000));
  expect(() => readStateFile(path)).toThrow("is not a state file");
});

it("a failed write names the state file although Node.js does not", () => {
  const limited = `
    const { writeStateFile } = await import(${JSON.stringify(resolve("dist/files/state-file.js"))});
    process.on("SIGXFSZ", () => undefined);
    try { writeStateFile(${JSON.stringify(path)}, "x".repeat(100_000)); } catch (error) { console.log(error.message); }`;
  const shell = 'ulimit -f 8; trap \'\' XFSZ; exec "$0" --input-type=module -e "$1"';
  const output = execFileSync("bash", ["-c", shell, process.execPath, limited], { encoding: "utf8" });
  expect(output).toBe(`EFBIG: file too large, write '${path}'\n`);
});

it("the state file does not write through a link", () => {
  writeStateFile(path, {});
  const other = join(folder, "other");
  writeFileSync(other, "precious");
  symlinkSync(other, `${path}.${process.pid}.new`);
  rmSync(path);
  symlinkSync(other, path);
  writeStateFile(path, { a: 1 });
  expect(readFileSync(other, "utf8")).toBe("precious");
  expect(readStateFile(path)).toEqual({ a: 1 });
});

it("the state file gives what root writes to the owner of the folder, who must read it", () => {
  const euid = process.geteuid?.() ?? 0;
  const owner = euid === 0 ? 10001 : euid;
  mkdirSync(join(folder, "state"));
  chownSync(join(folder, "state"), owner, process.getegid?.() ?? 0);
  writeStateFile(path, { a: 1 });
  expect(statSync(path)).toMatchObject({ uid: owner });
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

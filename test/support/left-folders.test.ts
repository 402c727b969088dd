// What a run leaves behind: nothing. Its own folder is removed after it, and the next run removes that of a killed one.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, it } from "vitest";

import { removeLeftFolders } from "./left-folders.js";

it("the temporary folder of the tests belongs to their run", () => {
  expect(tmpdir()).toMatch(/kms-tests\.\d+$/);
});

it("folders of killed runs are removed, those of others are kept", () => {
  const ended = spawnSync("true").pid;
  const folder = (of: string | number): string => join(tmpdir(), `left.${of}`);
  for (const of of [ended, process.pid, process.ppid, "notes"]) {
    mkdirSync(join(folder(of), "inside"), { recursive: true });
  }
  removeLeftFolders("left.");
  expect([ended, process.pid, process.ppid, "notes"].map((of) => existsSync(folder(of)))).toEqual([
    false,
    false,
    true,
    true,
  ]);
});

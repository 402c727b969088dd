// Who may own the plugin's folders and files: one rule for every path that another user could use against the plugin.

import { chmodSync, chownSync, copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { fileProblem, folderProblem } from "../../src/files/ownership.js";
import { runCommand } from "../support/command.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { kmsPkcs11, type PluginProcess } from "../support/plugin-process.js";
import { makeFolder, tokenUri } from "../support/token.js";

const isRoot = process.getuid?.() === 0;
const SOMEBODY = 4242;
const trust = { danger: "replace it" };
let top: string;
let folder: string;
let file: string;

beforeEach(() => {
  top = makeFolder("ownership");
  folder = join(top, "folder");
  file = join(folder, "file");
  mkdirSync(folder, { mode: 0o700 });
  writeFileSync(file, "", { mode: 0o600 });
});

afterEach(() => {
  rmSync(top, { recursive: true, force: true });
});

it("files and folders are accepted that belong to this user and are closed to others", () => {
  expect([folderProblem(folder, trust), fileProblem(file, trust)]).toEqual([undefined, undefined]);
});

it.each([0o777, 0o1777, 0o770, 0o702])("a folder of mode %o is refused, and a file in it", (mode) => {
  chmodSync(folder, mode);
  for (const problem of [folderProblem(folder, trust), fileProblem(file, trust)]) {
    expect(problem).toMatch(/folder can be written by others, who could replace it; chmod go-w it/);
  }
});

it("a folder below a writable one is refused unless only owners may rename there", () => {
  chmodSync(top, 0o777);
  expect(folderProblem(folder, trust)).toMatch(/ownership-\w+ can be written by others/);
  chmodSync(top, 0o1777);
  expect(folderProblem(folder, trust)).toBeUndefined();
});

it("what a link leads to is checked", () => {
  const link = join(top, "link");
  symlinkSync(folder, link);
  expect(folderProblem(link, trust)).toBeUndefined();
  chmodSync(folder, 0o777);
  expect(folderProblem(link, trust)).toMatch(/can be written by others/);
});

it("a file that others may write to is refused", () => {
  chmodSync(file, 0o666);
  expect(fileProblem(file, trust)).toMatch(/file can be written by others/);
});

it.runIf(isRoot)("another user's folder and file are refused, except for a command run by root", () => {
  chownSync(folder, SOMEBODY, SOMEBODY);
  expect(folderProblem(folder, trust)).toMatch(
    /belongs to user 4242, who could replace it; chown it to root/,
  );
  expect(fileProblem(file, trust)).toMatch(/folder belongs to user 4242/);
  expect(folderProblem(folder, { ...trust, forAnotherUser: true })).toBeUndefined();
  chmodSync(folder, 0o777);
  expect(folderProblem(folder, { ...trust, forAnotherUser: true })).toMatch(/can be written by others/);
});

describe("what serve refuses and check reports", () => {
  const kms = usePlugin({}, { start: false });
  /** Each test configures a plugin of its own. */
  let plugin: PluginProcess;
  const run = async (...words: string[]): Promise<{ code: number | null; text: string }> => {
    const command = [...words, "--config", plugin.configFile];
    // A plugin that starts although it should not would not end in this process.
    const execute = words[0] === "serve" ? kmsPkcs11 : runCommand;
    const result = await execute(command, kms.token.env);
    return { code: result.code, text: result.stdout + result.stderr };
  };

  beforeEach(async () => {
    ({ plugin } = await kms.add());
  });

  it("serve, check and keys list refuse a state directory that others may write to", async () => {
    plugin.configure({ audit: { file: join(top, "log", "audit.log") } });
    mkdirSync(plugin.stateDir);
    chmodSync(plugin.stateDir, 0o777);
    for (const command of [["serve"], ["check"], ["keys", "list"]]) {
      const { code, text } = await run(...command);
      expect(code, text).toBe(2);
      expect(text).toMatch(
        /state can be written by others, who could forge or remove the plugin's state; chmod/,
      );
      expect(text).toMatch(/state can be written by others, who could replace the audit key/);
    }
  });

  it.runIf(isRoot)(
    "root's serve refuses another user's state directory, and check names the right user",
    async () => {
      mkdirSync(plugin.stateDir, { mode: 0o700 });
      chownSync(plugin.stateDir, SOMEBODY, SOMEBODY);
      expect(await run("serve")).toMatchObject({
        code: 2,
        text: expect.stringContaining("belongs to user 4242") as string,
      });
      // That user cannot read the test's token.
      const checked = await run("check", "--as", "root");
      expect(checked.code, checked.text).toBe(0);
      expect(checked.text).toMatch(
        /warn +state +a problem unless the plugin runs as that user: .* belongs to user 4242/,
      );
      expect((await run("keys", "list", "--as", "root")).code).toBe(0);
    },
  );

  it("serve, check and keys list refuse a module that others may write to or replace", async () => {
    const copy = join(folder, "libsofthsm2.so");
    copyFileSync(kms.token.modulePath, copy);
    plugin.configure({ keys: { uri: tokenUri(kms.token, "kms-kek", copy) } });
    expect(await run("check")).toMatchObject({ code: 0 });
    for (const [path, mode] of [
      [copy, 0o757],
      [folder, 0o777],
    ] as const) {
      chmodSync(path, mode);
      for (const command of [["serve"], ["check"], ["keys", "list"]]) {
        const { code, text } = await run(...command);
        expect(code, text).toBe(2);
        expect(text).toMatch(/can be written by others, who could run code of their own/);
      }
      chmodSync(path, 0o700);
    }
  });
});

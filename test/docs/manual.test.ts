// The man pages: made from the help, complete, and without a warning of groff or mandoc if these are installed.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, expect, it } from "vitest";

import { commandLine } from "./command-line.js";

const folder = mkdtempSync(join(tmpdir(), "manual-"));
const SCRIPT = fileURLToPath(new URL("../../scripts/manual-pages.js", import.meta.url));

beforeAll(() => {
  const { status, stderr } = spawnSync(process.execPath, [SCRIPT, folder], { encoding: "utf8" });
  expect([status, stderr]).toEqual([0, ""]);
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** Returns a page's text without the escapes of roff. */
const textOf = (page: string): string =>
  readFileSync(join(folder, page), "utf8")
    .replaceAll("\\-", "-")
    .replaceAll(/^\.[A-Z]+ /gm, "");

it("every command and each of its options is on the man page of its group", async () => {
  for (const { name, help } of await commandLine()) {
    const [group = ""] = name.split(" ");
    const text = textOf(group === "" ? "kms-pkcs11.1" : `kms-pkcs11-${group}.1`);
    expect(text).toContain(`kms-pkcs11 ${name}`.trim());
    for (const [flag] of help.matchAll(/(?<=^ {2}(?:-\w, )?)--[\w-]+/gm)) expect(text, name).toContain(flag);
  }
});

it.each([
  ["groff", ["-man", "-ww", "-z"]],
  ["mandoc", ["-Tlint", "-W", "warning"]],
])("%s finds nothing wrong with the man pages, if it is installed", (program, options) => {
  if (spawnSync(program, ["--version"]).error !== undefined) return;
  const pages = readdirSync(folder).map((name) => join(folder, name));
  const { stdout, stderr } = spawnSync(program, [...options, ...pages], { encoding: "utf8" });
  expect([stdout, stderr]).toEqual(["", ""]);
});

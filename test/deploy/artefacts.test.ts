// What a release is made from is pinned, and what the packages leave out is nothing that Node.js reads.

import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, it } from "vitest";

import { makeFolder } from "../support/token.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

it("every base image of the Dockerfile is pinned by digest for the release", () => {
  const args = [...read("Dockerfile").matchAll(/^ARG (\w+)=(\S+)$/gm)].map(([, name, image]) => [
    name,
    image,
  ]);
  expect(args).not.toHaveLength(0);
  const pinned = new Map(
    [...read("deploy/package/base-images").matchAll(/^(\w+)=(\S+)@sha256:[0-9a-f]{64}$/gm)].map(
      ([, name, image]) => [name, image] as const,
    ),
  );
  expect([...pinned]).toEqual(args);
});

it("every action of the release workflow is pinned by commit", () => {
  const uses = [...read(".github/workflows/release.yml").matchAll(/uses: (\S+)/g)].map(
    ([, action]) => action,
  );
  expect(uses).not.toHaveLength(0);
  for (const action of uses) expect(action).toMatch(/^[\w/-]+@[0-9a-f]{40}$/);
});

it("types, maps and build leftovers are stripped, code and licences are kept", () => {
  const folder = makeFolder("strip");
  const kept = [
    "pino/LICENSE",
    "pino/pino.js",
    "pkcs11js/build/Release/pkcs11.node",
    "zod/index.cjs",
    "zod/package.json",
  ];
  const stripped = [
    "bintrees/test/fixtures/data.100k",
    "pino/pino.d.ts",
    "pino/pino.js.map",
    "pkcs11js/build/Makefile",
    "zod/src/index.ts",
  ];
  for (const file of [...kept, ...stripped]) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), "");
  }
  execFileSync(join(ROOT, "scripts/strip-packages"), [folder]);
  const left = readdirSync(folder, { recursive: true, withFileTypes: true });
  const files = left.filter((one) => one.isFile()).map((one) => join(one.parentPath, one.name));
  expect(files.sort()).toEqual(kept.map((file) => join(folder, file)));
  expect(left.map(({ name }) => name)).not.toContain("src");
  rmSync(folder, { recursive: true });
});

// The compile cache of the built program: it is used from another folder too, and by the user of deploy/; a program without
// it, or with a damaged one, works the same.

import { execFileSync, spawnSync } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { makeFolder } from "./support/token.js";

const ROOT = fileURLToPath(new URL("../", import.meta.url));

let folder: string;
let cache: string;

beforeEach(() => {
  folder = makeFolder("engine");
  cache = join(folder, "dist/compile-cache");
  const parts = ["dist", "proto", "package.json"].map((name) => join(ROOT, name));
  execFileSync("cp", ["--recursive", ...parts, folder]);
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

interface Run {
  readonly output: string;
  /** Number of the program's modules that came from the cache. */
  readonly hits: number;
}

/** Runs a command in the copy. */
function run(...command: string[]): Run {
  const env = { ...process.env, NODE_DEBUG_NATIVE: "COMPILE_CACHE" };
  const args = [join(folder, "dist/main.js"), ...command];
  const options = { env, encoding: "utf8", maxBuffer: 1 << 24 } as const;
  const { stdout, stderr } = spawnSync(process.execPath, args, options);
  return { output: stdout.trim(), hits: stderr.match(/ESM \S+\/dist\/\S+ was accepted/g)?.length ?? 0 };
}

const version = (): Run => run("--version");

/** The cache is made by the pinned Node.js only. */
const isCached = existsSync(join(ROOT, "dist/compile-cache"));
const made = isCached ? readdirSync(join(ROOT, "dist/compile-cache")) : [];
const isOurs = made.some((name) => name.startsWith(`${process.version}-`));

describe.runIf(isOurs)("the compile cache", () => {
  it("the compile cache is used after the program has been moved to another folder", () => {
    expect(version()).toEqual({
      output: "0.1.0",
      hits: expect.toSatisfy((hits: number) => hits >= 5) as number,
    });
  });

  it("the compile cache works for `serve` too, which runs with other flags of V8", () => {
    expect(run("serve", "--config", "/nowhere").hits).toBeGreaterThan(version().hits);
  });

  it("the compile cache has folders for root and for the user of deploy/", () => {
    for (const user of [0, 10001]) expect(made.filter((name) => name.endsWith(`-${user}`))).toHaveLength(2);
  });
});

describe("the program", () => {
  it("the program works without a compile cache, and makes none", () => {
    rmSync(cache, { recursive: true, force: true });
    expect(version()).toEqual({ output: "0.1.0", hits: 0 });
    expect(existsSync(cache)).toBe(false);
  });

  it("the program works with the cache of another Node.js, and adds nothing to it", () => {
    rmSync(cache, { recursive: true, force: true });
    mkdirSync(join(cache, "v1.2.3-x64-00000000-0"), { recursive: true });
    expect(version()).toEqual({ output: "0.1.0", hits: 0 });
    expect(readdirSync(cache)).toEqual(["v1.2.3-x64-00000000-0"]);
  });

  it.runIf(isOurs)("the program works with a damaged compile cache", () => {
    for (const name of readdirSync(cache, { recursive: true, encoding: "utf8" })) {
      const file = join(cache, name);
      if (!lstatSync(file).isFile()) continue;
      const start = readFileSync(file).subarray(0, 60);
      rmSync(file);
      writeFileSync(file, start);
    }
    expect(version()).toEqual({ output: "0.1.0", hits: 0 });
  });
});

it("the program says in one line that Node.js is too old", () => {
  const old = `Object.defineProperty(process, "versions", { value: { ...process.versions, node: "20.20.2" } })`;
  const hook = ["--import", `data:text/javascript,${encodeURIComponent(old)}`];
  const args = [...hook, join(folder, "dist/main.js"), "--version"];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  expect(stderr).toMatch(/^kms-pkcs11: Node\.js 22 or newer is needed; this is \S+ \(\S+\)\n$/);
});

describe("the limit of young garbage", () => {
  const youngMib = `v8.getHeapSpaceStatistics().find((space) => space.space_name === "new_space").space_size / 2 ** 20`;
  /** Keeps much of what it allocates, so that V8 lets the young generation grow. */
  const program = `
    import v8 from "node:v8";
    import { limitYoungGarbage } from ${JSON.stringify(join(ROOT, "dist/engine.js"))};
    limitYoungGarbage();
    const kept = Array.from({ length: 500_000 }, (_, at) => ({ at }));
    console.log(${youngMib}, kept.length);`;

  function youngAfterwards(...options: string[]): number {
    const args = [...options, "--input-type=module", "--eval", program];
    return Number.parseFloat(execFileSync(process.execPath, args, { encoding: "utf8" }));
  }

  it("the engine keeps the young generation small", () => {
    expect(youngAfterwards()).toBeLessThanOrEqual(2);
  });

  it("the command line of Node.js can make the young generation larger", () => {
    expect(youngAfterwards("--min-semi-space-size=8", "--max-semi-space-size=8")).toBeGreaterThanOrEqual(8);
  });
});

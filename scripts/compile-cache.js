// Makes dist/compile-cache/, from which the program takes its compiled modules (src/engine.ts): compile-cache.js. Part of the
// build. V8 reuses what it has compiled under the same flags only, so `serve`, which sets another one, has a cache of its own.
// A Node.js that cannot make a cache that may be moved makes none. The same source gives the same bytes.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import module from "node:module";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

import { withImports } from "./module-imports.js";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const CACHE = join(DIST, "compile-cache");
/** Root, and the user of deploy/. Node.js names the cache after its version, V8's flags and the user. */
const USERS = [0, 10001];
/** Entries do something as soon as they are loaded. */
const ENTRIES = [
  "main.js",
  "token-host/main.js",
  "token-host/lane-thread.js",
  "etcd/threads/counting-thread.js",
  "drill/listing-main.js",
];
/** Commands that are run first, since the cache also keeps the functions that were called. */
const COMMANDS = {
  serve: [["serve", "--config", join(DIST, "no-file")]],
  others: [["--help"], ["status", "--socket", join(DIST, "no-socket")]],
};

function makeFolder() {
  try {
    module.enableCompileCache({ directory: CACHE, portable: true });
  } catch {
    return false;
  }
  for (const name of readdirSync(CACHE)) {
    const [, base, user] = /^(.*-)(\d+)$/.exec(name) ?? [];
    for (const other of USERS) {
      const link = join(CACHE, `${base}${other}`);
      if (user !== undefined && !existsSync(link)) symlinkSync(name, link);
    }
  }
  return true;
}

/** The modules of `serve` are joined in a few files (scripts/join-commands.js). It loads no others under its flags. */
async function loadServe() {
  for (const file of joined(/^serve(-.*)?\.js$/)) await import(file);
}

/** The other commands are joined, too. Processes and threads that are started by their file load modules as they are. */
async function loadOthers() {
  const started = ENTRIES.flatMap((entry) => [...withImports(join(DIST, entry))]);
  const modules = started.filter((file) => !ENTRIES.includes(relative(DIST, file)));
  for (const file of [...modules, ...joined(/^(commands|joined-.*)\.js$/)]) await import(file);
}

function joined(pattern) {
  const names = readdirSync(join(DIST, "cli")).filter((name) => pattern.test(name));
  return names.map((name) => join(DIST, "cli", name));
}

/**
 * V8 stores hashes of names with a random seed, and 4 bytes of a function that it does not initialise: they are zero unless
 * garbage collection has freed the memory before. Neither option is among the flags that a cache depends on.
 */
const SAME_BYTES = ["--random-seed=1", "--min-semi-space-size=128", "--max-semi-space-size=128"];

const { limitGarbage, limitYoungGarbage } = await import(join(DIST, "engine.js"));
const kind = process.argv[2];
if (kind === undefined) {
  rmSync(CACHE, { recursive: true, force: true });
  for (const one of Object.keys(COMMANDS)) makeInProcess(one);
} else {
  await makeCache(COMMANDS[kind]);
}

/** Makes the cache of one kind of commands, in a process with their flags. */
function makeInProcess(kind) {
  const args = [...SAME_BYTES, fileURLToPath(import.meta.url), kind];
  const { status } = spawnSync(process.execPath, args, { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}

async function makeCache(commands) {
  if (commands === COMMANDS.serve) limitYoungGarbage();
  limitGarbage();
  if (!makeFolder()) return;
  for (const args of commands) {
    spawnSync(process.execPath, [...process.execArgv, join(DIST, "main.js"), ...args]);
  }
  await (commands === COMMANDS.serve ? loadServe() : loadOthers());
}

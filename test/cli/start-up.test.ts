// What commands load before they do anything: modules of the program and of packages, counted in a process of the built
// program. Loading is most of the time of a short command.

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { describe, expect, it } from "vitest";

import { createProgram, listingProgram } from "../../src/cli/program.js";
import { MAIN } from "../support/plugin-process.js";

const silent = { out: () => undefined, err: () => undefined, isInteractive: false };

/** Prints the URL of each module at the end, one a line, between two marks. */
const LIST_MODULES = `
import { registerHooks } from "node:module";
const urls = [];
registerHooks({ load(url, context, next) { urls.push(url); return next(url, context); } });
process.on("exit", () => process.stderr.write("MODULES\\n" + urls.join("\\n") + "\\nUNDICI " +
  process.moduleLoadList.some((name) => name.endsWith("undici/undici"))));`;

interface Loaded {
  /** Of the program and of packages, without Node's own. */
  readonly modules: readonly string[];
  /** Node's own, such as node:fs, that a module has imported. */
  readonly builtins: readonly string[];
  /** Node's fetch and WebSocket, which take longer to load than the rest of Node's own modules. */
  readonly undici: boolean;
}

function loadedBy(...args: string[]): Loaded {
  const hook = `data:text/javascript,${encodeURIComponent(LIST_MODULES)}`;
  const { stderr } = spawnSync(process.execPath, ["--import", hook, MAIN, ...args], { encoding: "utf8" });
  const [, list = ""] = stderr.split("MODULES\n");
  expect(list).toContain("/dist/");
  const lines = list.split("\n");
  return {
    modules: lines.filter((url) => url.startsWith("file:")),
    builtins: lines.filter((url) => url.startsWith("node:")),
    undici: lines.includes("UNDICI true"),
  };
}

/** Returns the modules that the build has joined in a file, or the file's own, relative to dist/. */
function joinedIn(url: string): string[] {
  const text = readFileSync(fileURLToPath(url), "utf8");
  const joined = [...text.matchAll(/^\/\/ module (.*)$/gm)].map(([, name = ""]) => name);
  return joined.length > 0 ? joined : [url.replace(/^.*\/dist\//, "")];
}

describe("a command loads only what it needs:", () => {
  it.each([["--version"], ["--help"]])("%s loads commander, and none of the commands", (argument) => {
    const { modules, builtins } = loadedBy(argument);
    const packages = modules.filter((url) => url.includes("/node_modules/"));
    expect(packages.filter((url) => !url.includes("/commander/"))).toEqual([]);
    expect(modules.length - packages.length).toBeLessThan(21);
    // The largest of Node's own that the program imports.
    expect(builtins).not.toContain("node:crypto");
  });

  it.each([
    ["keys", "list", "--help"],
    ["check", "--config", "/nowhere"],
    ["etcd", "usage", "--help"],
  ])("%s %s loads joined modules, not each in a file of its own", (...args) => {
    const { modules } = loadedBy(...args);
    expect(modules.length).toBeLessThan(80);
    expect(modules.flatMap(joinedIn).length).toBeGreaterThan(2 * modules.length);
  });

  it.each([
    ["keys", "list", "--wide", "--config", "/nowhere"],
    ["status", "--wide", "--socket", "/nowhere"],
  ])("%s %s %s loads no module that has a state of its own twice", (...args) => {
    const joined = loadedBy(...args).modules.flatMap(joinedIn);
    const twice = joined.filter((name, at) => joined.indexOf(name) !== at && name.endsWith(".js"));
    const source = (name: string): string => readFileSync(join(dirname(MAIN), name), "utf8");
    expect(twice.filter((name) => /^let |= new (Map|Set)\(\);/m.test(source(name)))).toEqual([]);
  });

  it("serve loads few files, and nothing of etcd commands, tables, tracing or Node's fetch", () => {
    const { modules, undici } = loadedBy("serve", "--config", "/nowhere");
    expect(modules.length).toBeLessThan(41);
    const joined = modules.flatMap(joinedIn);
    expect(joined).toContain("compose/plugin.js");
    expect(
      joined.filter((name) => /^(etcd|admin|bench|conformance)\/|cli-table|opentelemetry/.test(name)),
    ).toEqual([]);
    expect(undici).toBe(false);
  });

  it("serve loads no documentation comments, and no character that takes two bytes", () => {
    const { modules } = loadedBy("serve", "--config", "/nowhere");
    const texts = modules
      .filter((url) => url.includes("/cli/serve"))
      .map((url) => readFileSync(fileURLToPath(url), "utf8"));
    expect(texts.length).toBeGreaterThan(1);
    for (const text of texts) {
      expect(text).not.toMatch(/[^\0-\x7f]/u);
      expect(text).not.toMatch(/^\s*\/\*\*/mu);
    }
  });

  it("serve loads no code of approvals or of several clusters", () => {
    const joined = loadedBy("serve", "--config", "/nowhere").modules.flatMap(joinedIn);
    expect(joined).toContain("provider/active-key.js");
    expect(joined.filter((name) => /^(approvals|hsm\/shared)\//.test(name))).toEqual([]);
  });
});

it("the help without the commands' code is that of the commands", async () => {
  const program = await createProgram(silent, []);
  expect(listingProgram().helpInformation()).toBe(program.helpInformation());
});

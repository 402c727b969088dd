// The pages for users say what the code does: flags, metrics and links are compared with the real ones.

import { execFileSync } from "node:child_process";
import { existsSync, globSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, it } from "vitest";

import { MECHANISM_CHOICES } from "../../src/hsm/mechanisms.js";
import { commandLine } from "./command-line.js";
import { metricReference } from "./metric-reference.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

const ALL_PAGES = globSync("**/*.md", {
  cwd: ROOT,
  exclude: (path) => /(^|\/)(node_modules|dist|build|coverage|\.git|\.dev)(\/|$)/.test(path),
}).sort();
/** Pages for users without the runbooks, whose commands the end-to-end tests run. */
const USER_PAGES = ALL_PAGES.filter((path) => path === "README.md" || /^deploy\/[^/]+\.md$/.test(path));
const GUIDE = /^deploy\/(install-\w+|several-nodes|upgrade|removal)\.md$/;
/** Flags of the project's scripts, of Kubernetes and of other tools, which the pages mention too. */
const FOREIGN_FLAGS = [
  "--template",
  "--name",
  "--encryption-provider-config",
  "--encryption-provider-config-automatic-reload",
  "--once",
  "--init-token",
  "--free",
  "--label",
  "--help",
  "--etcd-prefix",
  "--quick",
  "--write",
  "--requests",
  "--objects",
  "--node",
  "--config",
  "--heap-growing-percent",
  "--initial-old-space-size",
  "--semi-space-growth-factor",
];

it("the README has at most 150 lines", () => {
  expect(read("README.md").split("\n").length).toBeLessThanOrEqual(151);
});

it.each(globSync("deploy/pictures/*", { cwd: ROOT }))("%s is small, and names no machine", (path) => {
  expect(statSync(join(ROOT, path)).size).toBeLessThan(100_000);
  if (path.endsWith(".svg")) expect(read(path)).not.toMatch(/\/(tmp|home|root|work|Users)\//);
});

it("the pages show pictures that exist", () => {
  for (const page of ALL_PAGES) {
    for (const [, target = ""] of read(page).matchAll(/\b(?:src|srcset)="([^"]+)"/g)) {
      expect(existsSync(join(ROOT, dirname(page), target)), `${target} on ${page}`).toBe(true);
    }
  }
});

it("every command that reads the configuration of one cluster has --cluster", async () => {
  const reading = (await commandLine()).filter(({ help }) => help.includes("--config <file>"));
  expect(reading.length).toBeGreaterThan(20);
  const ofAll = reading.filter(({ help }) => !help.includes("--cluster <name>"));
  expect(ofAll.map(({ name }) => name).sort()).toEqual(["config validate", "serve"]);
});

it("the pages for users name existing flags only", async () => {
  const help = (await commandLine()).map((command) => command.help).join("\n");
  for (const page of USER_PAGES) {
    // Most commands of the guides are other programs'.
    const text = GUIDE.test(page)
      ? (read(page).match(/^ *(\$ )?kms-pkcs11 .*$/gm) ?? []).join("\n")
      : read(page);
    const flags = new Set(text.match(/(?<![\w-])--[a-z][a-z-]+/g));
    for (const flag of flags) {
      if (!FOREIGN_FLAGS.includes(flag)) expect(help, `${flag} on ${page}`).toContain(flag);
    }
  }
});

it("the page about monitoring names every metric, and no page names another", async () => {
  const there = (await metricReference()).map(({ name }) => name);
  const namedOn = (page: string): readonly string[] => read(page).match(/kms_pkcs11_[a-z_]+/g) ?? [];
  for (const page of USER_PAGES) for (const name of namedOn(page)) expect(there, page).toContain(name);
  const ours = there.filter((name) => !/^kms_pkcs11_(process|nodejs)_/.test(name));
  const explained = namedOn("deploy/monitoring.md");
  expect(ours.filter((name) => !explained.includes(name))).toEqual([]);
});

it.each(MECHANISM_CHOICES)("the page about keys and SECURITY.md say what authenticates %s", (choice) => {
  expect(read("deploy/keys.md")).toContain(`\n| \`${choice}\``);
  expect(read("SECURITY.md")).toContain(`\`${choice}\``);
});

/** Returns the anchors of a page's headings, as the forge makes them. */
const anchorsOf = (path: string): string[] =>
  [...read(path).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );

it.each(ALL_PAGES)("every link on %s leads to a file and heading that exist", (page) => {
  const text = read(page).replaceAll(/^```[^]*?^```/gm, "");
  for (const [, target = "", anchor = ""] of text.matchAll(/\]\(([^)#\s]*)(#[^)\s]*)?[^)]*\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    const path = target === "" ? page : join(dirname(page), target);
    expect(existsSync(join(ROOT, path)), target).toBe(true);
    if (anchor !== "" && path.endsWith(".md")) expect(anchorsOf(path), target).toContain(anchor.slice(1));
  }
});

it.each(ALL_PAGES.filter((page) => GUIDE.test(page)))(
  "the commands of %s are fewer than 40, and shell",
  (page) => {
    const blocks = [...read(page).matchAll(/^( *)```(sh|console)\n([^]*?)^\1```/gm)];
    const script = blocks.map(([, , kind, block = ""]) =>
      kind === "sh" ? block : [...block.matchAll(/^\$ (.*\n)/gm)].map(([, line = ""]) => line).join(""),
    );
    const text = script.join("").replaceAll("…", "x");
    const commands = text.replaceAll(/<<'END'\n[^]*?^ *END$/gm, "").match(/^ *\S.*$/gm) ?? [];
    expect(commands.length).toBeLessThan(40);
    expect(commands.length).toBeGreaterThan(5);
    execFileSync("bash", ["-n"], { input: text });
  },
);

// The commands about the program itself.
import type { Command } from "commander";
import { expect, it } from "vitest";

import { createProgram, showsWaiting } from "../../src/cli/program.js";
import { VERSION } from "../../src/version.js";
import { runCommand } from "../support/command.js";

it("'help keys rotate' prints what 'keys rotate --help' prints", async () => {
  const help = await runCommand(["help", "keys", "rotate"]);
  expect(help.stdout).toContain("Usage: kms-pkcs11 keys rotate [options]");
  expect(help).toEqual(await runCommand(["keys", "rotate", "--help"]));
});

it("help for a command that does not exist is a usage error", async () => {
  const { code, stderr } = await runCommand(["help", "keys", "rotat"]);
  expect(code).toBe(2);
  expect(stderr).toContain("unknown command 'keys rotat'");
});

it("help for a terminal of 60 columns breaks descriptions of options between words", async () => {
  const program = await createProgram({ out: () => undefined, err: () => undefined, isInteractive: false }, [
    "drill",
  ]);
  const drill = program.commands.find((one) => one.name() === "drill");
  drill?.configureOutput({ getOutHelpWidth: () => 60 });
  const options = drill?.helpInformation().split("Options:\n")[1] ?? "";
  expect(options).toContain("--kube-apiserver <program>");
  expect(Math.max(...options.split("\n").map((line) => line.length))).toBeLessThanOrEqual(60);
});

it.each([
  { option: "--output=table", columns: 60 },
  { option: "--wide", columns: Infinity },
])("with $option a table on a terminal of 60 columns takes at most $columns", async ({ option, columns }) => {
  const uri = `pkcs11:token=kms;object=kms-kek?module-path=/usr/lib/${"a-long-name/".repeat(9)}hsm.so`;
  const terminal = { isTTY: true, columns: 60, hasColors: () => false };
  const before = Object.keys(terminal).map((name) => Object.getOwnPropertyDescriptor(process.stdout, name));
  Object.assign(process.stdout, terminal);
  try {
    const { code, stdout } = await runCommand(["config", "print", "--key", uri, option]);
    const widest = Math.max(...stdout.split("\n").map((line) => line.length));
    expect([code, widest <= columns, widest <= terminal.columns]).toEqual([0, true, columns === 60]);
  } finally {
    Object.keys(terminal).forEach((name, at) => {
      Object.defineProperty(process.stdout, name, before[at] ?? { value: undefined, configurable: true });
    });
  }
});

it("'version' prints the versions of plugin, Node.js and OpenSSL", async () => {
  const { stdout } = await runCommand(["version", "-o", "json"]);
  expect(JSON.parse(stdout)).toMatchObject({
    version: VERSION,
    node: process.versions.node,
    openssl: process.versions.openssl,
  });
});

it.each([
  ["keys list", true],
  ["etcd usage", true],
  // Their kubeconfig may name an exec plugin, which prompts.
  ["etcd migrate", false],
  ["rotation run", false],
  ["approvals sign", false],
])("'%s' may show that it waits: %s", async (name, may) => {
  const silent = { out: () => undefined, err: () => undefined, isInteractive: false };
  const names = name.split(" ");
  let command: Command | undefined = await createProgram(silent, names);
  for (const one of names) command = command?.commands.find((inner) => inner.name() === one);
  expect(command && showsWaiting(command)).toBe(may);
});

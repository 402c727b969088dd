// Errors of commands with `--output json`: one line of JSON at the end of standard error.
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { expect, it } from "vitest";

import type { CheckOutput } from "../../src/cli/output-schema/plugin.js";
import { asksForJson } from "../../src/cli/failure.js";
import { commandLine } from "../docs/command-line.js";
import { runCommand } from "../support/command.js";
import { kmsPkcs11, type CommandResult } from "../support/plugin-process.js";

/** What a command needs before it reads its configuration. */
const REQUIRED: Readonly<Record<string, readonly string[]>> = {
  "custody split": ["--threshold", "2", "--shares", "3"],
  "evidence collect": ["--to", "/nowhere/evidence"],
  "keys adopt": ["@active"],
  "keys destroy": ["@retired"],
  "rotation abort": ["@standby"],
  "etcd get": ["/registry/secrets/default/db", "--break-glass", "a test"],
  drill: ["--snapshot", "/nowhere/backup.db", "--to", tmpdir()],
};
/** Prints the problems also as its result; reads another file first; reads it only for what is not asked here. */
const NOT_READING: readonly string[] = ["config validate", "approvals deliver", "etcd usage"];

const MISSING =
  "/nowhere.yaml: cannot be read (ENOENT); name a readable file with --config or $KMS_PKCS11_CONFIG";

const errorOf = ({ stderr }: CommandResult): unknown => JSON.parse(stderr.trimEnd().split("\n").at(-1) ?? "");

it.each([
  { line: "keys list --key nonsense -o json", code: 2, error: "CONFIG_INVALID" },
  { line: "-o json keys list --key nonsense", code: 2, error: "CONFIG_INVALID" },
  {
    line: "status --socket /nonexistent/kms.sock --output=json",
    code: 3,
    error: "PEER_UNREACHABLE",
  },
  { line: "unlock --socket /nonexistent/unlock.sock -ojson", code: 3, error: "PEER_UNREACHABLE" },
])("'$line' reports its error as one line of JSON", async ({ line, code, error }) => {
  const result = await runCommand(line.split(" "));
  expect([result.code, result.stdout]).toEqual([code, ""]);
  expect(result.stderr.trimEnd().split("\n")).toHaveLength(1);
  expect(errorOf(result)).toEqual({
    error: {
      code: error,
      message: expect.stringMatching(/./) as unknown,
      next: expect.stringMatching(/./) as unknown,
    },
  });
});

it.each([
  { line: "keys list --nonsense -o json", message: "unknown option '--nonsense'" },
  { line: "nonsense -o json", message: "unknown command 'nonsense'" },
  { line: "keys destroy -o json", message: "missing required argument 'key_id'" },
  { line: "keys -o json", message: "the command is incomplete" },
])("a usage error of '$line' is JSON too, without the help for people", async ({ line, message }) => {
  const result = await runCommand(line.split(" "));
  expect(result.code).toBe(2);
  expect(result.stderr.trimEnd().split("\n")).toHaveLength(1);
  expect(errorOf(result)).toMatchObject({ error: { code: "CONFIG_INVALID", message } });
});

it("every command reports a usage error as one line of JSON", async () => {
  const names = (await commandLine()).map(({ name }) => name.split(" ").filter((word) => word !== ""));
  expect(names.length).toBeGreaterThan(30);
  for (const name of names) {
    const result = await runCommand([...name, "--no-such-option", "-o", "json"]);
    const what = name.join(" ");
    expect([what, result.code, result.stdout]).toEqual([what, 2, ""]);
    expect([what, ...result.stderr.trimEnd().split("\n")]).toHaveLength(2);
    expect(errorOf(result)).toMatchObject({ error: { code: "CONFIG_INVALID" } });
  }
});

it("every command that reads a configuration reports a missing one as one line of JSON", async () => {
  const commands = (await commandLine()).filter(({ help }) => /^ +-c, --config <file>/m.test(help));
  expect(commands.length).toBeGreaterThan(20);
  for (const { name } of commands.filter((one) => !NOT_READING.includes(one.name))) {
    const needed = REQUIRED[name] ?? [];
    const result = await runCommand([...name.split(" "), ...needed, "-c", "/nowhere.yaml", "-o", "json"]);
    expect([name, result.code, result.stdout, errorOf(result)]).toEqual([
      name,
      2,
      "",
      { error: expect.objectContaining({ code: "CONFIG_INVALID", message: MISSING }) as unknown },
    ]);
  }
});

it("a command's error without --output json is a sentence", async () => {
  const { stderr } = await runCommand(["keys", "list", "--key", "nonsense"]);
  expect(stderr).toMatch(/^kms-pkcs11: --key: /);
});

it("--help with --output json still prints the help and exits with 0", async () => {
  const { code, stdout } = await runCommand(["keys", "list", "--help", "-o", "json"]);
  expect([code, stdout]).toEqual([0, expect.stringContaining("Usage: kms-pkcs11 keys list")]);
});

it("a value 'json' that belongs to another option or follows '--' does not ask for JSON", () => {
  expect(asksForJson(["etcd", "get", "json", "--key", "json"])).toBe(false);
  expect(asksForJson(["keys", "destroy", "--", "-o", "json"])).toBe(false);
});

it("check with --output json ends with an error as JSON if what it needs is invalid", async () => {
  const folder = mkdtempSync(join(tmpdir(), "check-"));
  const uri = `pkcs11:token=kms;object=kms-kek?module-path=${folder}/none.so&pin-source=file:${folder}/pin`;
  const options = ["--key", uri, "--socket", `${folder}/kms.sock`, "--state-dir", `${folder}/state`];
  const result = await runCommand(["check", ...options, "-o", "json"]);
  const { findings } = JSON.parse(result.stdout) as CheckOutput;
  const { detail } = findings.find(({ verdict }) => verdict === "fail") ?? {};
  expect([result.code, errorOf(result)]).toMatchObject([2, { error: { message: detail } }]);
});

it("an exception that nothing catches is reported as a defect, last as one line of JSON", () => {
  const folder = mkdtempSync(join(tmpdir(), "uncaught-"));
  const fault = join(folder, "fault.mjs");
  writeFileSync(
    fault,
    `import net from "node:net";
     const { connect } = net.Socket.prototype;
     net.Socket.prototype.connect = function (...args) {
       setImmediate(() => { throw new Error("a defect"); });
       return connect.apply(this, args);
     };`,
  );
  const args = ["status", "--socket", join(folder, "kms.sock"), "-o", "json"];
  const result = kmsPkcs11(args, { NODE_OPTIONS: `--import=${pathToFileURL(fault).href}` });
  expect([result.code, errorOf(result)]).toMatchObject([1, { error: { code: "INTERNAL" } }]);
  expect(result.stderr).toContain("a defect");
});

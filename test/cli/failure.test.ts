// Errors of commands with `--output json`: one line of JSON at the end of standard error.
import { expect, it } from "vitest";

import { asksForJson } from "../../src/cli/failure.js";
import { runCommand } from "../support/command.js";
import type { CommandResult } from "../support/plugin-process.js";

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

it("without --output json an error is a sentence", async () => {
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

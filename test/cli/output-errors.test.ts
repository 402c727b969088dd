// Commands whose output is not read or cannot be written print no stack trace and keep their exit codes' meaning.
import { spawnSync } from "node:child_process";

import { expect, it } from "vitest";

import { MAIN } from "../support/plugin-process.js";

interface Ended {
  readonly code: string;
  readonly stderr: string;
}

/** Runs a command in a shell, with `redirection` behind it; the code is the command's own. */
function inShell(args: string, redirection: string): Ended {
  const script = `{ "$0" "$1" ${args}; echo "code $?" >&3; } ${redirection}`;
  const { stderr, output } = spawnSync("bash", ["-c", script, process.execPath, MAIN], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe", "pipe"],
  });
  return { code: output[3]?.trim() ?? "", stderr };
}

it.each([
  ["--help", "code 0"],
  ["keys rotate --help", "code 0"],
  ["check --socket /nonexistent/kms.sock", "code 2"],
  ["status --socket /nonexistent/kms.sock", "code 3"],
])("%s ends silently with its own exit code if its reader leaves", (args, code) => {
  for (const reader of ["| true", "| head -c 1 >/dev/null"]) {
    const ended = inShell(`${args} 2>/dev/null`, reader);
    expect(ended, reader).toEqual({ code, stderr: "" });
  }
  expect(inShell(args, "2>&1 >/dev/null | true")).toMatchObject({ code });
});

it.each(["--help", "--version", "keys rotate --help"])(
  "%s reports in one line that its output cannot be written",
  (args) => {
    const { code, stderr } = inShell(args, ">/dev/full");
    expect(stderr).toMatch(/^kms-pkcs11: cannot write to standard output \(ENOSPC\)\n$/);
    expect(code).toBe("code 4");
  },
);

it("an output error with --output json is a line of JSON", () => {
  const { code, stderr } = inShell("version --output json", ">/dev/full");
  expect(JSON.parse(stderr)).toMatchObject({
    error: { code: "RESULT_LOST", message: "cannot write to standard output (ENOSPC)" },
  });
  expect([code, stderr.match(/\n/g)]).toEqual(["code 4", ["\n"]]);
});

// Bytes of stored objects on standard output: unchanged, except on a terminal, which would obey control characters.

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

import { expect, it } from "vitest";

const OUTPUT = fileURLToPath(new URL("../../dist/cli/output.js", import.meta.url));
const PRINT = `import("${OUTPUT}").then(({ printBytes }) =>
  printBytes(Buffer.from("a\\x1b]0;title\\x07\\x00\\x9b2J\\nb\\xff", "latin1")))`;

it("bytes are printed unchanged to a pipe", () => {
  const { stdout } = spawnSync(process.execPath, ["-e", PRINT]);
  expect(stdout.toString("latin1")).toBe("a\x1b]0;title\x07\x00\x9b2J\nb\xff");
});

it("bytes are escaped on a terminal, with a notice", () => {
  const { stdout } = spawnSync("script", ["-qfec", `'${process.execPath}' -e "$PRINT"`, "/dev/null"], {
    env: { ...process.env, PRINT },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const shown = stdout.toString("latin1");
  expect(shown).toContain("a\\u001b]0;title\\u0007\\u0000");
  expect(shown).toMatch(/Control characters are escaped/);
  // eslint-disable-next-line no-control-regex -- these are what a terminal obeys
  expect(shown.replace(/[\r\n]/g, "")).not.toMatch(/[\x00-\x1f\x7f-\x9f]/);
});

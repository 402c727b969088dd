// `keys destroy` on a terminal, which asks for the key_id to be typed.

import { spawnSync } from "node:child_process";

import { afterAll, beforeAll, expect, it } from "vitest";

import { kmsPkcs11, MAIN, type CommandResult } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { tokenUri } from "../support/token.js";

let token: SoftHsm;

beforeAll(() => {
  token = createSoftHsm();
});

afterAll(() => {
  token.remove();
});

/** Runs a command on a terminal of its own, which util-linux makes, and types a line. */
function type(text: string, ...args: string[]): CommandResult {
  const command = [process.execPath, MAIN, ...args].map((word) => `'${word}'`).join(" ");
  const options = { env: { ...process.env, ...token.env }, encoding: "utf8", input: `${text}\n` } as const;
  const { status, stdout, stderr } = spawnSync("script", ["-qec", command, "/dev/null"], options);
  return { code: status, stdout, stderr };
}

it("destroys nothing when another is typed", () => {
  const uri = tokenUri(token, "kms-kek");
  const keys = (...args: string[]): CommandResult =>
    kmsPkcs11(["keys", ...args, "--key", uri, "-o", "json"], token.env);
  expect(keys("create").code).toBe(0);
  const { created } = JSON.parse(keys("rotate", "--activate-in", "1h").stdout) as {
    created: { keyId: string };
  };
  const { keyId } = created;
  const destroy = ["keys", "destroy", keyId, "--key", uri, "--i-understand-data-is-lost", keyId];
  const wrong = type("another", ...destroy);
  expect([wrong.code, wrong.stdout]).toEqual([
    1,
    expect.stringContaining("another key_id was typed; nothing was destroyed"),
  ]);
  const right = type(keyId, ...destroy);
  expect([right.code, right.stdout]).toEqual([
    0,
    expect.stringMatching(/Type the key_id to destroy it.*destroyed "kms-kek@/s),
  ]);
});

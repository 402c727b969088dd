// `keys destroy` on a terminal, where it prompts for the key_id.

import { spawn } from "node:child_process";
import { once } from "node:events";

import { expect, it } from "vitest";

import { runCommand } from "../../support/command.js";
import { MAIN, type CommandResult } from "../../support/plugin-process.js";
import { useToken } from "../../support/token-fixture.js";
import { tokenUri } from "../../support/token.js";

const QUESTION = "Type the key_id to destroy it";

const hsm = useToken();

/** Runs a command on a terminal of its own, which util-linux's script(1) makes, and types these keys at its prompt. */
async function type(keys: string, ...args: string[]): Promise<[code: number | null, output: string]> {
  const command = [process.execPath, MAIN, ...args].map((word) => `'${word}'`).join(" ");
  const child = spawn("script", ["-qec", command, "/dev/null"], {
    env: { ...process.env, ...hsm.token.env, NO_COLOR: "1" },
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const isAsked = output.includes(QUESTION);
    output += text;
    if (!isAsked && output.includes(QUESTION)) child.stdin.write(keys);
  });
  const [code] = (await once(child, "close")) as [number | null];
  return [code, output];
}

it("'keys destroy' destroys nothing if another key_id or none is typed", async () => {
  const uri = tokenUri(hsm.token, "kms-kek");
  const keys = (...args: string[]): Promise<CommandResult> =>
    runCommand(["keys", ...args, "--key", uri, "-o", "json"], hsm.token.env);
  expect((await keys("create")).code).toBe(0);
  const { created } = JSON.parse((await keys("rotate", "--activate-in", "1h")).stdout) as {
    created: { keyId: string };
  };
  const { keyId } = created;
  const destroy = ["keys", "destroy", keyId, "--key", uri, "--i-understand-data-is-lost", keyId];
  const refusals = [
    [
      `${keyId.slice(0, 11)}\r`,
      1,
      "only the beginning of the key_id was typed, and all of it is needed; nothing was destroyed",
    ],
    ["another\r", 1, "another key_id was typed; nothing was destroyed"],
    // Ctrl-C and Ctrl-D.
    ["\x03", 130, "no key_id was typed; nothing was destroyed"],
    ["\x04", 130, "no key_id was typed; nothing was destroyed"],
  ] as const;
  for (const [keys, exitCode, refusal] of refusals) {
    const [code, output] = await type(keys, ...destroy);
    expect(output).toMatch(/KEK +"kms-kek@.*", standby, activates 20.*\r\nkey_id +01/);
    expect([code, output.endsWith(`kms-pkcs11: ${refusal}\r\n`)], output).toEqual([exitCode, true]);
  }
  await expect(type(`${keyId}\r`, ...destroy)).resolves.toEqual([
    0,
    expect.stringMatching(/destroyed "kms-kek@/),
  ]);
});

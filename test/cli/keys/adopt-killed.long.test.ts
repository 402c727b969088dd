// `keys adopt` on a token whose labels cannot be changed, so that the key is copied: what remains after a kill between
// the copy and the destruction of the original, and how the next run completes the adoption.

import { spawn } from "node:child_process";
import { once } from "node:events";

import { expect, it } from "vitest";

import { runCommand } from "../../support/command.js";
import { MAIN, type CommandResult } from "../../support/plugin-process.js";
import { pkcs11Tool } from "../../support/softhsm.js";
import { useToken } from "../../support/token-fixture.js";
import { tokenUri } from "../../support/token.js";
import { waitFor } from "../../support/wait.js";

interface Listing {
  readonly keys: readonly { readonly keyId: string }[];
}

const hsm = useToken({ faults: [] });

const args = (object: string, words: readonly string[]): string[] => [
  "keys",
  ...words,
  "--key",
  tokenUri(hsm.fault, object),
  "-o",
  "json",
];
const keysOf = (object: string, ...words: string[]): Promise<CommandResult> =>
  runCommand(args(object, words), hsm.fault.env);
const keys = (...words: string[]): Promise<CommandResult> => keysOf("kms-kek", ...words);

/** Runs a command and kills it at the given call of a function. */
async function killAt(name: string, call: number, object: string, ...words: string[]): Promise<void> {
  const before = hsm.fault.calls(name);
  const child = spawn(process.execPath, [MAIN, ...args(object, words)], {
    env: { ...process.env, ...hsm.fault.env },
    stdio: "ignore",
  });
  await waitFor(() => hsm.fault.calls(name) >= before + call, { timeoutMs: 30_000 });
  child.kill("SIGKILL");
  await once(child, "close");
}

it("'keys adopt' finishes one of an AES and HMAC key that was killed between their copies", async () => {
  const named = ["--label", "pair", "--id", "08", "--private", "--sensitive"];
  pkcs11Tool(hsm.token, "--keygen", "--key-type", "AES:32", ...named);
  pkcs11Tool(hsm.token, "--keygen", "--key-type", "GENERIC:32", "--usage-sign", ...named);
  const listed = async (): Promise<Listing["keys"]> =>
    (JSON.parse((await keysOf("pair", "list")).stdout) as Listing).keys;
  const [{ keyId } = { keyId: "" }] = await listed();
  hsm.fault.set("read-only-attributes", "C_CopyObject hang skip=1");
  await killAt("C_CopyObject", 2, "pair", "adopt", keyId);
  hsm.fault.set("read-only-attributes");
  const again = await keysOf("pair", "adopt", keyId);
  expect([again.code, again.stderr]).toEqual([0, ""]);
  expect(await listed()).toEqual([expect.objectContaining({ keyId, kind: "aes+hmac", state: "active" })]);
  const objects = pkcs11Tool(hsm.token, "--list-objects", "--type", "secrkey").match(/label: +pair\b.*/g);
  expect(objects).toEqual([expect.stringMatching(/pair@/), expect.stringMatching(/pair@/)]);
});

it("'keys adopt' finishes one that was killed between copy and destruction of the original", async () => {
  const plain = ["--label", "kms-kek", "--id", "07"];
  pkcs11Tool(hsm.token, "--keygen", "--key-type", "AES:32", ...plain, "--private", "--sensitive");
  hsm.fault.set("read-only-attributes", "C_DestroyObject hang");
  await killAt("C_DestroyObject", 1, "kms-kek", "adopt", "@active");
  hsm.fault.set("read-only-attributes");

  const left = (JSON.parse((await keys("list")).stdout) as Listing).keys;
  expect(pkcs11Tool(hsm.token, "--list-objects", "--type", "secrkey").match(/label: +kms-kek/g)).toHaveLength(
    2,
  );

  const again = await keys("adopt", "@active");
  expect(again.code, again.stderr).toBe(0);
  expect(JSON.parse(again.stdout)).toMatchObject({ tokens: [{ outcome: "done" }] });
  expect(pkcs11Tool(hsm.token, "--list-objects", "--type", "secrkey").match(/label: +kms-kek.*/g)).toEqual([
    expect.stringMatching(/kms-kek@\w+$/),
  ]);
  const { keys: listed } = JSON.parse((await keys("list")).stdout) as Listing;
  expect(listed).toEqual([expect.objectContaining({ keyId: left[0]?.keyId, state: "active" })]);

  const third = await keys("adopt", "@active");
  expect(JSON.parse(third.stdout)).toMatchObject({ tokens: [{ outcome: "not needed" }] });
});

// Commands that make a KEK while another command has just made one. Of two simultaneous rotations one succeeds, the
// other fails, and one KEK remains. A later rotation warns of the standby KEK. Two first KEKs both stay.

import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";

import { expect, it } from "vitest";

import { runCommand } from "../../support/command.js";
import { MAIN } from "../../support/plugin-process.js";
import { useToken } from "../../support/token-fixture.js";
import { tokenUri } from "../../support/token.js";
import { waitFor } from "../../support/wait.js";

const LIMIT = { timeoutMs: 60_000 };
const hsm = useToken({ faults: [] });

const args = (words: readonly string[]): string[] => [
  "keys",
  ...words,
  "--key",
  tokenUri(hsm.fault, "kms-kek"),
  "-o",
  "json",
];

async function states(): Promise<string[]> {
  const { stdout } = await runCommand(args(["list"]), hsm.fault.env);
  return (JSON.parse(stdout) as { keys: { state: string }[] }).keys.map(({ state }) => state);
}

async function start(...words: string[]): Promise<{ code: number; stderr: string }> {
  const child = spawn(process.execPath, [MAIN, ...args(words)], {
    env: { ...process.env, ...hsm.fault.env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const [stderr, [code]] = (await Promise.all([text(child.stderr), once(child, "close")])) as [
    string,
    [number],
  ];
  return { code, stderr };
}

/**
 * Runs a command twice at once. Neither makes its KEK until both have read the token, and each waits before it reads the token
 * again, so that the other's KEK is there.
 */
async function twice(rules: readonly string[], ...words: string[]) {
  const go = join(hsm.fault.folder, `go-${randomUUID()}`);
  hsm.fault.set(`C_GenerateKey until ${go}`, "C_GenerateKey sleep 1000 after", ...rules);
  const before = hsm.fault.calls("C_GenerateKey");
  const ended = Promise.all([start(...words), start(...words)]);
  await waitFor(() => hsm.fault.calls("C_GenerateKey") - before === 2, { what: "both commands", ...LIMIT });
  writeFileSync(go, "");
  return ended;
}

it("two simultaneous 'keys create' name both KEKs and destroy neither, which may be in use", async () => {
  const ended = await twice([], "create");
  expect(ended, JSON.stringify(ended)).toMatchObject([
    { code: 1, stderr: expect.stringContaining("both are on the token") as string },
    { code: 1, stderr: expect.stringContaining("both are on the token") as string },
  ]);
  expect((await states()).sort()).toEqual(["active", "retired"]);
});

it("one of two simultaneous 'keys rotate' succeeds, even if libraries read at load time", async () => {
  const at = new Date(Date.now() + 3_600_000).toISOString();
  const ended = await twice(["store-at-load"], "rotate", "--activate-at", at);
  const [winner, loser] = ended.map(({ code }) => code).sort();
  expect(winner, JSON.stringify(ended)).toBe(0);
  expect([1, 2], JSON.stringify(ended)).toContain(loser);
  expect(await states()).toEqual(["standby", "active", "retired"]);
});

it("'keys rotate' warns that a standby KEK becomes active before the new one", async () => {
  const { code, stderr } = await runCommand(
    args(["rotate", "--activate-in", "2h", "--dry-run"]),
    hsm.fault.env,
  );
  expect([code, stderr]).toEqual([
    0,
    expect.stringMatching(
      /warning: "kms-kek@\w+" \(key_id \S+\) is standby already and becomes active at .* before the new KEK/,
    ),
  ]);
});

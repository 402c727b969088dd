// What commands that change a KEK write to the audit log: the intent before the first change and the outcome after it.
// If the log is required and cannot be written, nothing is changed.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, renameSync, rmdirSync, writeFileSync } from "node:fs";

import { expect, it } from "vitest";

import { runCommand } from "../../support/command.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import { MAIN, type CommandResult } from "../../support/plugin-process.js";
import { makePlainKey } from "../../support/softhsm.js";
import { waitFor } from "../../support/wait.js";

let audit: string;
/** Never started; only its configuration file is used. */
const kms = usePlugin(
  ({ fault }) => {
    audit = fault.path("audit.log");
    writeFileSync(audit, "");
    return { audit: { file: audit, required: true } };
  },
  { token: { faults: [] }, start: false },
);

const args = (words: readonly string[]): string[] => [
  "keys",
  ...words,
  "--config",
  kms.plugin.configFile,
  "-o",
  "json",
];
const keys = (...words: string[]): Promise<CommandResult> => runCommand(args(words), kms.fault.env);
const keyIds = async (): Promise<string[]> =>
  (JSON.parse((await keys("list")).stdout) as { keys: { keyId: string }[] }).keys.map(({ keyId }) => keyId);
const events = (): string[] =>
  readFileSync(audit, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, string>)
    .filter(({ event }) => event === "operator")
    .map(({ operation, outcome, keyId }) => `${operation ?? ""} ${outcome ?? ""} ${keyId ?? "-"}`);

/** Runs a command while a folder occupies the log's path. */
async function withoutLog(...words: string[]): Promise<CommandResult> {
  renameSync(audit, `${audit}.kept`);
  mkdirSync(audit);
  const result = await keys(...words);
  rmdirSync(audit);
  renameSync(`${audit}.kept`, audit);
  return result;
}

const withoutAge = (json: string): unknown =>
  (JSON.parse(json) as { keys: { keyId: string; label: string; state: string }[] }).keys.map(
    ({ keyId, label, state }) => ({ keyId, label, state }),
  );

it("no command changes anything that a required audit log cannot record", async () => {
  const refusal = {
    code: 2,
    stderr: expect.stringContaining(
      "the audit log cannot be written, so the operation was not started",
    ) as string,
  };
  expect(await withoutLog("create")).toMatchObject(refusal);
  makePlainKey(kms.token, "kms-kek", "07");
  const [plain = ""] = await keyIds();
  const made = await keys("rotate", "--activate-in", "1h");
  const { keyId } = (JSON.parse(made.stdout) as { created: { keyId: string } }).created;
  const before = (await keys("list")).stdout;
  expect(await withoutLog("rotate", "--activate-in", "2h")).toMatchObject(refusal);
  expect(await withoutLog("adopt", plain)).toMatchObject(refusal);
  expect(await withoutLog("destroy", keyId, "--i-understand-data-is-lost", keyId)).toMatchObject(refusal);
  expect(withoutAge((await keys("list")).stdout)).toEqual(withoutAge(before));
});

it("a killed command has recorded its intent, a finished one its outcome too", async () => {
  const standby = (await keyIds())[0] ?? "";
  const words = ["destroy", standby, "--i-understand-data-is-lost", standby];
  const earlier = events().length;
  kms.fault.set("C_DestroyObject hang");
  const began = kms.fault.calls("C_DestroyObject");
  const child = spawn(process.execPath, [MAIN, ...args(words)], {
    env: { ...process.env, ...kms.fault.env },
    stdio: "ignore",
  });
  await waitFor(() => kms.fault.calls("C_DestroyObject") > began, { timeoutMs: 30_000 });
  child.kill("SIGKILL");
  await once(child, "close");
  expect(events().slice(earlier)).toEqual([`keys destroy begun ${standby}`]);
  kms.fault.clear();
  expect((await keys(...words)).code).toBe(0);
  expect(events().slice(earlier + 1)).toEqual([
    `keys destroy begun ${standby}`,
    `keys destroy ok ${standby}`,
  ]);
});

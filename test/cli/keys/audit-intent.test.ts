// What commands that change a KEK write to the audit log: the intent before the first change and the outcome after it.
// If the log is required and cannot be written, nothing is changed.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, renameSync, rmdirSync, writeFileSync } from "node:fs";

import { afterAll, beforeAll, expect, it } from "vitest";

import { FaultModule } from "../../support/fault-module.js";
import { runCommand } from "../../support/command.js";
import { MAIN, PluginProcess, type CommandResult } from "../../support/plugin-process.js";
import { createSoftHsm, pkcs11Tool, type SoftHsm } from "../../support/softhsm.js";
import { waitFor } from "../../support/wait.js";

let token: SoftHsm;
let fault: FaultModule;
/** Never started; only its configuration file is used. */
let configured: PluginProcess;
let audit: string;

beforeAll(() => {
  token = createSoftHsm();
  fault = new FaultModule(token);
  audit = fault.path("audit.log");
  writeFileSync(audit, "");
  configured = new PluginProcess(fault, { audit: { file: audit, required: true } });
});

afterAll(() => {
  configured.remove();
  fault.remove();
  token.remove();
});

const args = (words: readonly string[]): string[] => [
  "keys",
  ...words,
  "--config",
  configured.configFile,
  "-o",
  "json",
];
const keys = (...words: string[]): Promise<CommandResult> => runCommand(args(words), fault.env);
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
  const key = [
    "--keygen",
    "--key-type",
    "AES:32",
    "--label",
    "kms-kek",
    "--id",
    "07",
    "--private",
    "--sensitive",
  ];
  pkcs11Tool(token, ...key);
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
  fault.set("C_DestroyObject hang");
  const began = fault.calls("C_DestroyObject");
  const child = spawn(process.execPath, [MAIN, ...args(words)], {
    env: { ...process.env, ...fault.env },
    stdio: "ignore",
  });
  await waitFor(() => fault.calls("C_DestroyObject") > began, { timeoutMs: 30_000 });
  child.kill("SIGKILL");
  await once(child, "close");
  expect(events().slice(earlier)).toEqual([`keys destroy begun ${standby}`]);
  fault.clear();
  expect((await keys(...words)).code).toBe(0);
  expect(events().slice(earlier + 1)).toEqual([
    `keys destroy begun ${standby}`,
    `keys destroy ok ${standby}`,
  ]);
});

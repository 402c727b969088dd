// Interrupted commands that change a KEK: the operation in progress is finished and recorded, and a guarded rotation
// leaves no KEK behind that another token lacks.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { expect, it } from "vitest";

import { runCommand } from "../support/command.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { MAIN } from "../support/plugin-process.js";
import { SoftHsmClone } from "../support/softhsm-clone.js";
import { tokenUri } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const LONG = { timeoutMs: 50_000, intervalMs: 50 };
const GUARDED = ["rotate", "--activate-in", "1h", "--abort-unless-converged"];

/**
 * Never started; only its configuration file is used. The fault module is in front of the first token. The second token
 * never gets a clone of the new KEK.
 */
const kms = usePlugin(
  ({ token, plugin }) => ({
    failover: [{ uri: tokenUri(new SoftHsmClone(token, "other"), "kms-kek") }],
    audit: { file: join(plugin.folder, "audit.log") },
  }),
  { token: { kek: true, faults: [] }, start: false },
);

const command = (...args: string[]): string[] => [MAIN, "keys", ...args, "--config", kms.plugin.configFile];
const environment = (): NodeJS.ProcessEnv => ({ ...process.env, ...kms.token.env });

function start(...args: string[]): { child: ChildProcess; ended: Promise<[number | null, string]> } {
  const child = spawn(process.execPath, command(...args), { env: environment() });
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  return { child, ended: once(child, "close").then(([code]) => [code as number | null, stderr]) };
}

/** Sends the signal, and waits until the command says that it has received it. */
async function interrupt(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  let stderr = "";
  child.stderr?.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  child.kill(signal);
  await waitFor(() => stderr.includes("interrupt again to exit now"), LONG);
}

async function standby(): Promise<string[]> {
  const [, , ...args] = command("list", "-o", "json");
  const { keys } = JSON.parse((await runCommand(["keys", ...args], kms.token.env)).stdout) as {
    keys: { keyId: string; state: string }[];
  };
  return keys.filter(({ state }) => state === "standby").map(({ keyId }) => keyId);
}

/** Returns the operations of the last events, with their outcomes. */
function recorded(events: number): string[] {
  const lines = readFileSync(join(kms.plugin.folder, "audit.log"), "utf8").trim().split("\n");
  const operations = lines.flatMap((line) => {
    const { operation, outcome } = JSON.parse(line) as { operation?: string; outcome?: string };
    return operation === undefined ? [] : [`${operation}: ${outcome ?? ""}`];
  });
  return operations.slice(-events);
}

const ABORTED = [
  "keys rotate: begun",
  "keys rotate: ok",
  "keys rotate --abort-unless-converged: begun",
  "keys rotate --abort-unless-converged: ok",
];

it("Ctrl-C while 'keys rotate --abort-unless-converged' makes a key destroys the key", async () => {
  kms.fault.set("C_GenerateKey sleep 1000 after");
  const before = kms.fault.calls("C_GenerateKey");
  const { child, ended } = start(...GUARDED);
  await waitFor(() => kms.fault.calls("C_GenerateKey") > before, LONG);
  child.kill("SIGINT");
  expect(await ended).toEqual([
    130,
    expect.stringMatching(/was destroyed: interrupted before every token and node had it/),
  ]);
  expect(recorded(4)).toEqual(ABORTED);
  expect(await standby()).toEqual([]);
});

it("SIGHUP while 'keys rotate --abort-unless-converged' waits destroys the key", async () => {
  const line = [process.execPath, ...command(...GUARDED)].map((word) => `'${word}'`).join(" ");
  const terminal = spawn("script", ["-qec", line, "/dev/null"], { env: environment() });
  let output = "";
  terminal.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  await waitFor(() => output.includes("waiting for it there"), LONG);
  terminal.kill("SIGKILL");
  await waitFor(() => recorded(1)[0] === ABORTED[3], LONG);
  expect(recorded(4)).toEqual(ABORTED);
  expect(await standby()).toEqual([]);
});

it("a closed terminal during 'keys destroy' lets it finish and record the outcome", async () => {
  expect(await start("rotate", "--activate-in", "1h").ended).toMatchObject([0, expect.anything()]);
  const [keyId = ""] = await standby();
  kms.fault.set("C_DestroyObject sleep 1000");
  const before = kms.fault.calls("C_DestroyObject");
  const { child, ended } = start("destroy", keyId, "--i-understand-data-is-lost", keyId);
  await waitFor(() => kms.fault.calls("C_DestroyObject") > before, LONG);
  // A closed terminal sends it twice: its shell passes it on, and the kernel sends it when the shell ends.
  await interrupt(child, "SIGHUP");
  child.kill("SIGHUP");
  expect(await ended).toEqual([
    0,
    expect.stringMatching(/^interrupted: finishing the operation in progress/),
  ]);
  expect(recorded(2)).toEqual(["keys destroy: begun", "keys destroy: ok"]);
  expect(await standby()).toEqual([]);
});

it("a second Ctrl-C during 'keys destroy' says that the outcome is not recorded, and exits", async () => {
  expect(await start("rotate", "--activate-in", "1h").ended).toMatchObject([0, expect.anything()]);
  const [keyId = ""] = await standby();
  kms.fault.set("C_DestroyObject sleep 2000");
  const before = kms.fault.calls("C_DestroyObject");
  const { child, ended } = start("destroy", keyId, "--i-understand-data-is-lost", keyId);
  await waitFor(() => kms.fault.calls("C_DestroyObject") > before, LONG);
  await interrupt(child, "SIGINT");
  child.kill("SIGINT");
  const said =
    'interrupted again: exiting now; "keys destroy" may be unfinished; the audit log has its beginning, not its outcome';
  expect(await ended).toEqual([null, expect.stringContaining(said)]);
  expect(recorded(1)).toEqual(["keys destroy: begun"]);
});

// deploy/runbooks/rotation.md on three plugins that share a token: its commands print what it shows.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createKek } from "./harness/hsm-token.js";
import { nodeUrls, rotateKek } from "./harness/keyring.js";
import { Plugin } from "./harness/plugin.js";
import { newFolder } from "./harness/run.js";
import { readRunbook, RunbookShell, type StepResult } from "./harness/runbook.js";
import { RunbookOutput } from "./harness/runbook-output.js";
import { SoftHsmToken } from "./harness/softhsm-token.js";
import { pollStatus } from "./harness/status-polls.js";
import { until } from "./harness/wait.js";

const RUNBOOK = new URL("../../deploy/runbooks/rotation.md", import.meta.url);
const NODES = 3;
/** Commands that an operator repeats until they show the expected state. */
const READS = /^kms-pkcs11 (keys list|status) /;

let token: SoftHsmToken;
const plugins: Plugin[] = [];
let endPolls: () => void;

beforeAll(async () => {
  token = await SoftHsmToken.create();
  await createKek(token);
  for (let index = 0; index < NODES; index++) {
    plugins.push(await Plugin.start({ token, config: { keys: { refreshInterval: "1s" } } }));
  }
  endPolls = pollStatus(plugins);
});

afterAll(async () => {
  endPolls();
  await Promise.all(plugins.map((plugin) => plugin.stop()));
});

/** Returns the addresses in the order of NODES, each with the one that the runbook shows. */
async function addresses(): Promise<[string, string][]> {
  const shown = /export NODES=(\S+)/.exec(await readFile(RUNBOOK, "utf8"))?.[1]?.split(",") ?? [];
  expect(shown).toHaveLength(NODES);
  return nodeUrls(plugins)
    .split(",")
    .map((real, index) => [real, shown[index] ?? ""]);
}

async function runSection(
  section: string,
  variables: Readonly<Record<string, string>> = {},
): Promise<number> {
  const { folder, socket } = plugins[0]?.places ?? { folder: "", socket: "" };
  const shell = await RunbookShell.create(await newFolder("runbook"), {
    ...token.env,
    CONFIG: join(folder, "config.yaml"),
    SOCKET: socket,
    NODES: nodeUrls(plugins),
    DELAY: "45s",
    ...variables,
  });
  const [shown, real] = [new RunbookOutput(), new RunbookOutput(await addresses())];
  const steps = await readRunbook(RUNBOOK, section);
  for (const { command, output } of steps) {
    const wanted = shown.comparable(output);
    let result: StepResult | undefined;
    const isDone = async (): Promise<boolean> => {
      result = await shell.run(command);
      return !READS.test(command) || real.comparable(result.stdout) === wanted;
    };
    // The last output is a better failure message than the timeout.
    await until(command, isDone, { timeoutMs: 60_000, intervalMs: 500 }).catch(() => undefined);
    const printed = real.comparable(result?.stdout ?? "");
    expect([command, result?.code, printed], result?.stderr).toEqual([command, 0, wanted]);
  }
  return steps.length;
}

describe("deploy/runbooks/rotation.md", () => {
  it("the rotation runbook's routine rotates the KEK", async () => {
    expect(await runSection("Routine")).toBe(4);
  });

  it("the rotation runbook cancels a KEK before its activation", async () => {
    const { keyId } = await rotateKek(token, "--wait", "--nodes", nodeUrls(plugins));
    expect(await runSection("Abort", { NEW: keyId })).toBe(2);
  });

  it("the rotation runbook rotates at once in an emergency", async () => {
    expect(await runSection("Emergency")).toBe(1);
  });
});

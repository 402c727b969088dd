// From the start of the process to the first Status that is ok, and the start of commands that load little.

import { spawnSync } from "node:child_process";
import { statSync } from "node:fs";

import { spreadOf } from "../../../src/bench/statistics.js";
import { KmsClient } from "../../../src/kms-client/kms-client.js";
import { ProcessUsage } from "../../../src/observability/process-usage.js";
import { childrenOf, MAIN, PluginProcess } from "../../support/plugin-process.js";
import type { BenchRun } from "../bench-run.js";
import { shown } from "../results.js";
import { QUIET } from "../stage.js";

const COMMANDS = [
  { args: ["--version"], below: 0.1 },
  { args: ["--help"], below: 0.2 },
];

/** Measures starts, one of each kind after the other. */
export async function starts({ stage, sizes, results }: BenchRun): Promise<void> {
  const seconds: number[] = [];
  const processor: number[] = [];
  const commands = COMMANDS.map(() => [] as number[]);
  const plugin = new PluginProcess(stage.token, QUIET);
  for (let start = 0; start < sizes.starts; start++) {
    const startedAt = performance.now();
    plugin.launch();
    await firstOk(plugin.socket);
    seconds.push((performance.now() - startedAt) / 1000);
    processor.push(processorSeconds(plugin.pid));
    await plugin.stop();
    for (const [at, { args }] of COMMANDS.entries()) commands[at]?.push(commandSeconds(args));
  }
  plugin.remove();
  results.detail("startSeconds", { seconds, processor, commands });
  results.below("plugin start to the first `ok`", 0.3, spreadOf(seconds), "s");
  results.below("processor time of it, plugin and token hosts", 0.3, spreadOf(processor), "s");
  for (const [at, { args, below }] of COMMANDS.entries()) {
    results.below(`\`kms-pkcs11 ${args.join(" ")}\``, below, spreadOf(commands[at] ?? []), "s");
  }
  results.answer(
    `**A start.** The plugin answers the first \`ok\` ${shown(spreadOf(seconds))} s after its start.`,
  );
}

async function firstOk(socket: string): Promise<void> {
  const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 2));
  while (statSync(socket, { throwIfNoEntry: false }) === undefined) await soon();
  const client = new KmsClient(socket);
  const isOk = async (): Promise<boolean> => (await client.status().catch(() => undefined))?.healthz === "ok";
  while (!(await isOk())) await soon();
  client.close();
}

function processorSeconds(pid: number | undefined): number {
  return pid === undefined ? NaN : new ProcessUsage(() => [pid, ...childrenOf(pid)]).cpuSeconds;
}

function commandSeconds(args: readonly string[]): number {
  const startedAt = performance.now();
  spawnSync(process.execPath, [MAIN, ...args], { stdio: "ignore" });
  return (performance.now() - startedAt) / 1000;
}

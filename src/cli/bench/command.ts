// `kms-pkcs11 bench`: measures the AES-256-GCM core, a token, and running plugins through their sockets.
import type { Command } from "commander";
import { coreSteps, measureCore, type CoreFigure } from "../../bench/core.js";
import { compare, endpointSteps, measureEndpoints, OPERATIONS, summarise } from "../../bench/endpoints.js";
import { describeMachine } from "../../bench/machine.js";
import type { BenchResult, BenchSettings } from "../../bench/result.js";
import { measureToken, TOKEN_OPERATIONS, workingMechanisms, type TokenFigure } from "../../bench/token.js";
import { schedulePolicy } from "../../compose/provider.js";
import { VERSION } from "../../version.js";
import { activeAt, readSchedule } from "../../provider/generations.js";
import { benchSettings, type BenchOptions } from "./plan.js";
import { showBench } from "./report.js";
import { KmsClient } from "../../kms-client/kms-client.js";
import type { Terminal } from "../output.js";
import { operatorAt } from "../operator.js";
import { startProgress } from "../progress.js";
import { addKeyOptions, settingsFrom } from "../settings-options.js";
import { withToken } from "../../admin/command-tokens.js";

const EXAMPLE = `
Measures the core; with --key or --config also the token; with --socket also a running plugin.

Examples:
  kms-pkcs11 bench --config /etc/kms-pkcs11/config.yaml --socket /run/kms-pkcs11/kms.sock
  kms-pkcs11 bench --socket /run/kms-pkcs11/kms.sock --versus unix:///run/other/kms.sock -o json`;

/** Adds `bench`. */
export function addBenchCommand(program: Command, terminal: Terminal): void {
  addKeyOptions(program.command("bench"))
    .option("--socket <path>", "socket of a running plugin: a path or unix:///path")
    .option("--versus <endpoint>", "socket of another KMS v2 plugin, measured in turn with that of --socket")
    .option("--concurrency <list>", "concurrent requests through the socket", "1,4,16,64")
    .option("--sessions <list>", "sessions on the token", "1,4,16")
    .option("--repetitions <n>", "number of repetitions", "5")
    .option("--turn <ms>", "time of each measurement, in ms", "300")
    .option("--bytes <list>", "plaintext lengths for the core (default: 16 B to 64 KiB)")
    .addHelpText("after", EXAMPLE)
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<BenchOptions>();
      const plan = benchSettings(options);
      const result = await bench(options, plan, terminal);
      showBench(result, options.output, terminal);
    });
}

async function bench(options: BenchOptions, plan: BenchSettings, terminal: Terminal): Promise<BenchResult> {
  const machine = describeMachine();
  const core = await measureCoreAlone(plan, terminal);
  const token =
    options.key === undefined && options.config === undefined
      ? []
      : await measureTokens(options, plan, terminal);
  const { plugin, versus } = await measurePlugins(options, plan, terminal);
  return { version: VERSION, machine, settings: plan, core, token, plugin, versus };
}

async function withProgress<T>(
  terminal: Terminal,
  total: number,
  work: (onStep: () => void) => Promise<T>,
): Promise<T> {
  const progress = startProgress(terminal, "measurements", total);
  let done = 0;
  try {
    return await work(() => {
      progress.update(++done);
    });
  } finally {
    progress.end();
  }
}

function measureCoreAlone(
  { bytes, repetitions, turnMs }: BenchSettings,
  terminal: Terminal,
): Promise<CoreFigure[]> {
  return withProgress(terminal, coreSteps(bytes), (onStep) =>
    measureCore({ leastMs: turnMs, repetitions, bytes, onStep }),
  );
}

async function measureTokens(
  options: BenchOptions,
  plan: BenchSettings,
  terminal: Terminal,
): Promise<TokenFigure[]> {
  const settings = settingsFrom(withoutSocket(options), false);
  const figures: TokenFigure[] = [];
  for (const sessions of plan.sessions) {
    const measured = withToken(
      { ...settings, hsm: { ...settings.hsm, sessions } },
      operatorAt(terminal),
      async (hsm) => {
        const policy = schedulePolicy(settings);
        const { keyId } = activeAt(readSchedule(await hsm.listKeks(), policy), policy, Date.now()).record;
        const mechanisms = await workingMechanisms(hsm, keyId);
        const { repetitions, turnMs } = plan;
        const steps = mechanisms.length * TOKEN_OPERATIONS.length * repetitions;
        return withProgress(terminal, steps, (onStep) =>
          measureToken(hsm, { keyId, mechanisms, concurrency: sessions, repetitions, turnMs, onStep }),
        );
      },
    );
    figures.push(...(await measured));
  }
  return figures;
}

/** Returns the options without --socket, which names a running plugin here and not the socket to serve on. */
function withoutSocket(options: BenchOptions): BenchOptions {
  return Object.fromEntries(
    Object.entries(options).filter(([name]) => name !== "socket"),
  ) as unknown as BenchOptions;
}

async function measurePlugins(
  { socket, versus }: BenchOptions,
  { concurrency, repetitions, turnMs, seeds }: BenchSettings,
  terminal: Terminal,
): Promise<Pick<BenchResult, "plugin" | "versus">> {
  if (socket === undefined) return { plugin: [], versus: [] };
  const endpoints = [socket, ...(versus === undefined ? [] : [versus])].map((name) => ({
    name,
    client: new KmsClient(name),
  }));
  const settings = { operations: OPERATIONS, concurrency, repetitions, turnMs, seeds };
  const steps = endpointSteps({ ...settings, onStep: () => undefined }, endpoints.length);
  try {
    const samples = await withProgress(terminal, steps, (onStep) =>
      measureEndpoints(endpoints, { ...settings, onStep }),
    );
    return { plugin: summarise(samples), versus: versus === undefined ? [] : compare(samples, versus) };
  } finally {
    for (const { client } of endpoints) client.close();
  }
}

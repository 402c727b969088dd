// A plugin that has just started, and an API server that needs many distinct DEK seeds, one after another, from a slow
// HSM: with the working set, without, under a local KEK, and beside the reference plugin.

import { join } from "node:path";

import { quantile, ratioOf, spreadOf, type Spread } from "../../../src/bench/statistics.js";
import { FaultModule } from "../../support/fault-module.js";
import { PluginProcess, type PluginSettings } from "../../support/plugin-process.js";
import { rotated, type BenchRun } from "../bench-run.js";
import { coldStartChart, type ColdStart } from "../chart.js";
import { CHART, shown } from "../results.js";
import { QUIET, type Stage } from "../stage.js";

const REFERENCE = "reference";
const KNOWN = "direct, working set";
/** A node that starts for the first time has no working set. */
const FIRST = { cache: { remember: false } };
const OURS: Readonly<Record<string, PluginSettings>> = {
  direct: { mode: "direct", ...FIRST, ...QUIET },
  [KNOWN]: { mode: "direct", ...QUIET },
  "local-kek": { mode: "local-kek", ...FIRST, ...QUIET },
};
/** The delay for which there is a target, in ms. */
const TARGET_MS = 2;

interface Point extends ColdStart {
  readonly repetition: number;
}

/** A plugin that is started again for each measurement. */
interface Subject {
  readonly name: string;
  /** File with the ciphertexts that this plugin made. */
  readonly seeds: string;
  /** Starts it and returns its socket. */
  start(): Promise<string>;
  stop(): Promise<unknown>;
  remove(): void;
}

/** Measures the time for each seed against the HSM's delay, and draws it. */
export async function coldStart({ stage, load, sizes, results }: BenchRun): Promise<void> {
  const fault = new FaultModule(stage.token);
  const subjects = [referenceOn(stage, fault), ...Object.keys(OURS).map((name) => pluginOn(fault, name))];
  const points: Point[] = [];
  try {
    for (const subject of subjects) {
      await load.writeSeeds([subject.name, await subject.start()], sizes.seeds, subject.seeds);
      await subject.stop();
    }
    for (let repetition = 0; repetition < sizes.coldRepetitions; repetition++) {
      for (const delayMs of sizes.delaysMs) {
        fault.set(...(delayMs === 0 ? [] : [`* sleep ${delayMs}`]));
        for (const subject of rotated(subjects, repetition)) {
          const { name, seeds } = subject;
          const socket = await subject.start();
          const [took] = await load.run([[name, socket]], { requests: sizes.seeds, readSeeds: seeds });
          points.push({
            mode: name,
            delayMs,
            repetition,
            msPerSeed: ((took?.seconds ?? NaN) * 1000) / sizes.seeds,
          });
          await subject.stop();
        }
      }
    }
  } finally {
    for (const subject of subjects) {
      await subject.stop();
      subject.remove();
    }
    fault.remove();
  }
  await report(points, { sizes, results });
}

function referenceOn(stage: Stage, fault: FaultModule): Subject {
  let stop = (): Promise<unknown> => Promise.resolve();
  return {
    name: REFERENCE,
    seeds: join(fault.folder, "seeds-reference.json"),
    start: async () => {
      const started = await stage.startReference(fault);
      stop = () => started.stop();
      return started.socket;
    },
    stop: () => stop(),
    remove: () => undefined,
  };
}

function pluginOn(fault: FaultModule, name: string): Subject {
  const plugin = new PluginProcess(fault, OURS[name]);
  return {
    name,
    seeds: join(plugin.folder, "seeds.json"),
    start: async () => {
      await plugin.start();
      return plugin.socket;
    },
    stop: () => plugin.stop(),
    remove: () => {
      plugin.remove();
    },
  };
}

async function report(
  points: readonly Point[],
  { sizes, results }: Pick<BenchRun, "sizes" | "results">,
): Promise<void> {
  results.detail("coldStart", { seeds: sizes.seeds, points });
  const of = (mode: string, delayMs: number): number[] =>
    points.filter((one) => one.mode === mode && one.delayMs === delayMs).map((one) => one.msPerSeed);
  const modes = [REFERENCE, ...Object.keys(OURS)];
  const seeds = sizes.seeds.toLocaleString("en");
  const ratio = (mode: string): Spread => ratioOf(of(mode, TARGET_MS), of(REFERENCE, TARGET_MS));
  const case_ = `${seeds} seeds one after another, plugin just started, ${TARGET_MS} ms in every HSM call`;
  results.ratio(case_, { atMost: 0.1 }, ratio(KNOWN));
  results.ratio(`the same, first start on this node`, {}, ratio("direct"));
  const secondsOf = (mode: string): string =>
    ((quantile(of(mode, TARGET_MS), 0.5) * sizes.seeds) / 1000).toFixed(1);
  results.answer(
    `**A cold node.** An API server that needs ${seeds} DEK seeds from an HSM with ${TARGET_MS} ms in every call waits ` +
      `${secondsOf(KNOWN)} s for them in all, ${secondsOf("direct")} s on the node's first start, ${secondsOf("local-kek")} s ` +
      `in mode \`local-kek\`, and ${secondsOf(REFERENCE)} s with the reference plugin.`,
  );
  results.table(
    `Cold start: ms for each of ${seeds} DEK seeds, one after another`,
    ["plugin", ...sizes.delaysMs.map((ms) => `${ms} ms a call`)],
    modes.map((mode) => [mode, ...sizes.delaysMs.map((ms) => shown(spreadOf(of(mode, ms))))]),
  );
  const chart = modes.flatMap((mode) =>
    sizes.delaysMs.map((delayMs) => ({ mode, delayMs, msPerSeed: quantile(of(mode, delayMs), 0.5) })),
  );
  results.file(CHART, await coldStartChart(chart, `Cold start: ${seeds} DEK seeds, one after another`));
}

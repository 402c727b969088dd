// A plugin that has just started, and an API server that needs many distinct DEK seeds from a slow HSM: one after another,
// and many at a time; with the working set, without, under a local KEK, and beside the reference plugin.

import { join } from "node:path";

import { quantile, ratioOf, spreadOf, type Spread } from "../../../src/bench/statistics.js";
import { FaultModule } from "../../support/fault-module.js";
import { PluginProcess, type PluginSettings } from "../../support/plugin-process.js";
import { rotated, type BenchRun } from "../bench-run.js";
import { coldStartChart, type ColdStart } from "../chart.js";
import { CHART, shown } from "../results.js";
import type { LoadGenerator } from "../load-generator.js";
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
/** Number of simultaneous callers, and the plugins that are also measured with that many, at TARGET_MS. */
const MANY = 16;
const AT_ONCE = [REFERENCE, "direct"];

interface Point extends ColdStart {
  readonly callers: number;
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
          const hasTarget = delayMs === TARGET_MS && AT_ONCE.includes(subject.name);
          for (const callers of hasTarget ? [1, MANY] : [1]) {
            const msPerSeed = await measureOne(load, subject, { callers, seeds: sizes.seeds });
            points.push({ mode: subject.name, delayMs, callers, repetition, msPerSeed });
          }
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

/** Starts a plugin, has every DEK seed decrypted once, and returns the time for each, in ms. */
async function measureOne(
  load: LoadGenerator,
  subject: Subject,
  { callers, seeds }: { readonly callers: number; readonly seeds: number },
): Promise<number> {
  const target = [subject.name, await subject.start()] as const;
  const [took] = await load.run([target], {
    requests: seeds,
    concurrency: [callers],
    readSeeds: subject.seeds,
  });
  await subject.stop();
  return ((took?.seconds ?? NaN) * 1000) / seeds;
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
  const of = (mode: string, delayMs: number, callers = 1): number[] =>
    points
      .filter((one) => one.mode === mode && one.delayMs === delayMs && one.callers === callers)
      .map((one) => one.msPerSeed);
  const modes = [REFERENCE, ...Object.keys(OURS)];
  const seeds = sizes.seeds.toLocaleString("en");
  const ratio = (mode: string): Spread => ratioOf(of(mode, TARGET_MS), of(REFERENCE, TARGET_MS));
  const case_ = `${seeds} seeds one after another, plugin just started, ${TARGET_MS} ms in every HSM call`;
  results.ratio(case_, { atMost: 0.1 }, ratio(KNOWN));
  results.ratio(`the same, first start on this node`, {}, ratio("direct"));
  const atOnce = `${seeds} unknown seeds, ${MANY} callers, first start on this node, ${TARGET_MS} ms in every HSM call`;
  results.ratio(
    atOnce,
    { atMost: 1 },
    ratioOf(of("direct", TARGET_MS, MANY), of(REFERENCE, TARGET_MS, MANY)),
  );
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

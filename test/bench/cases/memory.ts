// The memory of the plugin and its token hosts over many requests. Each plugin runs on a Node.js binary of its own, since
// programs that share one would each count for a part of it only.

import { copyFileSync } from "node:fs";
import { join } from "node:path";

import { ProcessUsage } from "../../../src/observability/process-usage.js";
import { childrenOf, PluginProcess } from "../../support/plugin-process.js";
import { waitFor } from "../../support/wait.js";
import type { BenchRun } from "../bench-run.js";
import { QUIET } from "../stage.js";

const MODES = ["direct", "local-kek"] as const;
const BLOCKS = 10;
const CALLERS = 16;
const OPERATIONS = ["Encrypt", "Decrypt"];
const MAX_RESIDENT_MIB = 250;
const MAX_PROPORTIONAL_MIB = 150;
/** Difference within the last half that still counts as flat. */
const FLAT = 0.05;
const MIB = 2 ** 20;

interface Memory {
  readonly resident: number;
  readonly proportional: number;
}

/** Measures each mode: half of its requests are Encrypt, half are Decrypts of a few known seeds. */
export async function memory({ stage, load, sizes, results }: BenchRun): Promise<void> {
  const rows: string[][] = [];
  for (const mode of MODES) {
    const plugin = new PluginProcess(stage.token, { mode, ...QUIET });
    plugin.program = join(plugin.folder, "node");
    copyFileSync(process.execPath, plugin.program);
    try {
      await plugin.start();
      await waitFor(() => childrenOf(plugin.pid ?? 0).length === 2, { what: "the warm token host" });
      const measured = [memoryOf(plugin)];
      for (let block = 0; block < BLOCKS; block++) {
        const requests = Math.ceil(sizes.memoryRequests / BLOCKS / OPERATIONS.length);
        await load.run([[mode, plugin.socket]], { operations: OPERATIONS, concurrency: [CALLERS], requests });
        measured.push(memoryOf(plugin));
      }
      report(mode, measured, { sizes, results });
      rows.push([mode, ...measured.map(({ proportional }) => proportional.toFixed(0))]);
    } finally {
      await plugin.stop();
      plugin.remove();
    }
  }
  results.table(
    `Proportional memory (PSS) of the three processes, MiB, after each tenth of ${sizes.memoryRequests.toLocaleString("en")} requests`,
    ["mode", "start", ...Array.from({ length: BLOCKS }, (_, at) => `${(at + 1) * 10} %`)],
    rows,
  );
}

function report(
  mode: string,
  measured: readonly Memory[],
  { sizes, results }: Pick<BenchRun, "sizes" | "results">,
): void {
  results.detail(`memory, ${mode}`, { requests: sizes.memoryRequests, atStartAndAfterEachTenth: measured });
  const lastHalf = measured.slice(1 + BLOCKS / 2).map(({ proportional }) => proportional);
  const { resident, proportional } = measured.at(-1) ?? { resident: NaN, proportional: NaN };
  const growth = Math.max(...lastHalf) - Math.min(...lastHalf);
  results.finding({
    what: `\`${mode}\`, memory after ${sizes.memoryRequests.toLocaleString("en")} requests: resident / PSS`,
    target: `below ${MAX_RESIDENT_MIB} / ${MAX_PROPORTIONAL_MIB} MiB, flat`,
    measured: `${resident.toFixed(0)} / ${proportional.toFixed(0)} MiB, within ${growth.toFixed(0)} MiB over the last half`,
    reached:
      resident < MAX_RESIDENT_MIB && proportional < MAX_PROPORTIONAL_MIB && growth < FLAT * proportional,
  });
  if (mode === "direct") {
    results.answer(
      `**Its cost.** Plugin and token hosts together take ${proportional.toFixed(0)} MiB after ` +
        `${sizes.memoryRequests.toLocaleString("en")} requests. An idle API server calls \`Status\` once a minute.`,
    );
  }
}

function memoryOf(plugin: PluginProcess): Memory {
  const { pid } = plugin;
  const usage = new ProcessUsage(() => (pid === undefined ? [] : [pid, ...childrenOf(pid)]));
  return { resident: usage.residentBytes / MIB, proportional: usage.proportionalBytes / MIB };
}

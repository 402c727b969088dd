// What a run has found, beside what was to be reached: collected as it is measured, written to bench/results/ as JSON
// and printed as a table.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { Machine } from "../../src/bench/machine.js";
import { formatTable } from "../../src/cli/output.js";

const FOLDER = fileURLToPath(new URL("../../bench/results", import.meta.url));

/** One row of the table of what is to be reached. */
export interface Finding {
  readonly what: string;
  readonly target: string;
  readonly measured: string;
  readonly reached: boolean;
}

export class Results {
  readonly findings: Finding[] = [];
  readonly #details: Record<string, unknown> = {};
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** Keeps what was measured, as it was measured. */
  detail(name: string, value: unknown): void {
    this.#details[name] = value;
  }

  file(name: string, content: string): string {
    mkdirSync(FOLDER, { recursive: true });
    const path = join(FOLDER, name);
    writeFileSync(path, content);
    return path;
  }

  /** Writes everything and returns what is to be printed. */
  write(): string {
    const { findings } = this;
    const document = { machine: this.#machine, findings, ...this.#details };
    const table = formatTable(
      ["WHAT", "TO REACH", "MEASURED", ""],
      findings.map(({ what, target, measured, reached }) => [
        what,
        target,
        measured,
        reached ? "" : "falls short",
      ]),
    );
    const { cores, cpu, system, node, loadAverage, time } = this.#machine;
    const head = `${time}, ${String(cores)} cores ${cpu}, ${system}, Node.js ${node}, load ${String(loadAverage)}`;
    const text = `${head}\n\n${table}\n`;
    this.file("bench.json", `${JSON.stringify(document, null, 2)}\n`);
    this.file("bench.txt", text);
    return text;
  }
}

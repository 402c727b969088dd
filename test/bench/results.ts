// The results of a run compared with the targets: collected during the run, written to bench/results/ as JSON and
// printed as a table.

import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { Machine } from "../../src/bench/machine.js";
import { formatTable } from "../../src/cli/output.js";

const FOLDER = fileURLToPath(new URL("../../bench/results", import.meta.url));

const README = fileURLToPath(new URL("../../README.md", import.meta.url));
export const CHART = "cold-start.svg";
const README_CHART = fileURLToPath(new URL(CHART, import.meta.url));

/** One row of the table of targets. */
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

  /** Keeps raw measurements for the JSON file. */
  detail(name: string, value: unknown): void {
    this.#details[name] = value;
  }

  file(name: string, content: string): string {
    mkdirSync(FOLDER, { recursive: true });
    const path = join(FOLDER, name);
    writeFileSync(path, content);
    return path;
  }

  /** Returns the README's text between its markers: when and where the results were measured, and every finding. */
  get section(): string {
    const { cores, cpu, system, node, openssl, loadAverage, time } = this.#machine;
    const where = `${cores} cores of ${cpu}, ${system}, Node.js ${node}, OpenSSL ${openssl}`;
    return [
      `Measured on ${time.slice(0, 10)} by \`scripts/bench\`: ${where}; load average ${loadAverage} before it began.`,
      "",
      "| what | to reach | measured | |",
      "| --- | --- | --- | --- |",
      ...this.findings.map(
        ({ what, target, measured, reached }) =>
          `| ${what} | ${target} | ${measured} | ${reached ? "reached" : "falls short"} |`,
      ),
    ].join("\n");
  }

  /** Updates the README's section and its chart. */
  intoReadme(): void {
    writeFileSync(README, withSection(readFileSync(README, "utf8"), this.section));
    copyFileSync(join(FOLDER, CHART), README_CHART);
  }

  /** Writes the files and returns the text to print. */
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
    const head = `${time}, ${cores} cores ${cpu}, ${system}, Node.js ${node}, load ${loadAverage}`;
    const text = `${head}\n\n${table}\n`;
    this.file("bench.json", `${JSON.stringify(document, null, 2)}\n`);
    this.file("bench.txt", text);
    return text;
  }
}

const MARKERS = ["<!-- bench -->", "<!-- /bench -->"] as const;

/** Returns the README with a new section between its markers. @throws Error when it has no such markers */
export function withSection(readme: string, section: string): string {
  const [open, close] = MARKERS.map((marker) => readme.indexOf(marker));
  if (open === undefined || close === undefined || open < 0 || close < open) {
    throw new Error(`the README has no ${MARKERS.join(" and ")}`);
  }
  return `${readme.slice(0, open + MARKERS[0].length)}\n\n${section}\n\n${readme.slice(close)}`;
}

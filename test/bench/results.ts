// The results of a run beside the targets: collected during the run, written to bench/results/, and put between the
// markers of the pages that show them. For scripts/bench and scripts/scale.

import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { Machine } from "../../src/bench/machine.js";
import type { Spread } from "../../src/bench/statistics.js";
import { formatTable } from "../../src/cli/table.js";

const FOLDER = fileURLToPath(new URL("../../bench/results", import.meta.url));
const README = fileURLToPath(new URL("../../README.md", import.meta.url));
const PAGE = fileURLToPath(new URL("../../deploy/performance.md", import.meta.url));
export const CHART = "cold-start.svg";
const SHOWN_CHART = fileURLToPath(new URL(`../../deploy/${CHART}`, import.meta.url));

/** One row of the table of targets. */
export interface Finding {
  readonly what: string;
  readonly target: string;
  readonly measured: string;
  /** Undefined if there is no target. */
  readonly reached: boolean | undefined;
}

/** A target of a ratio; neither if it is only reported. */
interface RatioTarget {
  readonly atMost?: number;
  readonly atLeast?: number;
}

/** Returns the median with the quartiles in brackets. */
export function shown({ median, low, high }: Spread, digits = 2): string {
  return `${median.toFixed(digits)} (${low.toFixed(digits)} to ${high.toFixed(digits)})`;
}

interface ResultsOptions {
  readonly name: "bench" | "scale";
  readonly folder?: string;
}

export class Results {
  readonly #findings: Finding[] = [];
  readonly #answers: string[] = [];
  readonly #tables: string[] = [];
  readonly #details: Record<string, unknown> = {};
  readonly #machine: Machine;
  readonly #name: string;
  readonly #folder: string;

  /** @param options `name`: of the script that measures, of the files in `folder`, and of the markers in the pages */
  constructor(machine: Machine, { name, folder = FOLDER }: ResultsOptions) {
    this.#machine = machine;
    this.#name = name;
    this.#folder = folder;
  }

  get findings(): readonly Finding[] {
    return this.#findings;
  }

  finding(finding: Finding): void {
    this.#findings.push(finding);
  }

  /** Adds a ratio to the reference plugin. */
  ratio(what: string, { atMost, atLeast }: RatioTarget, ratio: Spread): void {
    const { median } = ratio;
    const target = atMost === undefined ? `at least ${String(atLeast)}×` : `at most ${atMost}×`;
    const isReached = atMost === undefined ? median >= (atLeast ?? 0) : median <= atMost;
    const hasTarget = (atMost ?? atLeast) !== undefined;
    this.finding({
      what,
      target: hasTarget ? target : "",
      measured: `${shown(ratio)}×`,
      reached: hasTarget ? isReached : undefined,
    });
  }

  /** Adds a figure whose median must be below a limit. */
  below(what: string, limit: number, measured: Spread, unit: string): void {
    this.finding({
      what,
      target: `below ${limit} ${unit}`,
      measured: `${shown(measured)} ${unit}`,
      reached: measured.median < limit,
    });
  }

  /** Adds a sentence for the README. */
  answer(text: string): void {
    this.#answers.push(text);
  }

  /** Adds a table for the page of figures. */
  table(title: string, head: readonly string[], rows: readonly (readonly string[])[]): void {
    const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
    this.#tables.push(
      [`### ${title}`, "", line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n"),
    );
  }

  /** Keeps raw measurements for the JSON file. */
  detail(name: string, value: unknown): void {
    this.#details[name] = value;
  }

  file(name: string, content: string): string {
    mkdirSync(this.#folder, { recursive: true });
    const path = join(this.#folder, name);
    writeFileSync(path, content);
    return path;
  }

  /** Returns the README's text between its markers. */
  get readmeSection(): string {
    return this.#answers.map((answer) => `- ${answer}`).join("\n");
  }

  /** Returns the page's text between its markers: when and where it was measured, every finding, and the tables. */
  get pageSection(): string {
    const { cores, cpu, system, node, openssl, loadAverage, time } = this.#machine;
    const where = `${cores} cores of ${cpu}, ${system}, Node.js ${node}, OpenSSL ${openssl}`;
    const verdict = { true: "reached", false: "falls short", undefined: "" };
    return [
      `Measured on ${time.slice(0, 10)} by \`scripts/${this.#name}\`: ${where}; load average ${loadAverage} before it began.`,
      "",
      "| what | to reach | measured | |",
      "| --- | --- | --- | --- |",
      ...this.#findings.map(
        ({ what, target, measured, reached }) =>
          `| ${what} | ${target} | ${measured} | ${verdict[`${reached}`]} |`,
      ),
      ...this.#tables.flatMap((table) => ["", table]),
    ].join("\n");
  }

  /** Updates the page of figures. */
  intoPage(): void {
    writeFileSync(PAGE, withSection(readFileSync(PAGE, "utf8"), this.#name, this.pageSection));
  }

  /** Updates the README and its chart. */
  intoReadme(): void {
    writeFileSync(README, withSection(readFileSync(README, "utf8"), this.#name, this.readmeSection));
    copyFileSync(join(this.#folder, CHART), SHOWN_CHART);
  }

  /** Writes the files and returns the text to print. */
  write(): string {
    const { cores, cpu, system, node, loadAverage, time } = this.#machine;
    const table = formatTable(
      ["WHAT", "TO REACH", "MEASURED", ""],
      this.#findings.map(({ what, target, measured, reached }) => [
        what,
        target,
        measured,
        reached === false ? "falls short" : "",
      ]),
    );
    const head = `${time}, ${cores} cores ${cpu}, ${system}, Node.js ${node}, load ${loadAverage}`;
    const text = `${head}\n\n${table}\n`;
    const document = { machine: this.#machine, findings: this.#findings, ...this.#details };
    this.file(`${this.#name}.json`, `${JSON.stringify(document, null, 2)}\n`);
    this.file(`${this.#name}.txt`, text);
    this.file(`${this.#name}.md`, `${this.pageSection}\n`);
    return text;
  }
}

/** Returns a page with a new section between its markers. @throws Error if it has no such markers */
export function withSection(page: string, name: string, section: string): string {
  const [opening, closing] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [open, close] = [page.indexOf(opening), page.indexOf(closing)];
  if (open < 0 || close < open) throw new Error(`the page has no ${opening} and ${closing}`);
  return `${page.slice(0, open + opening.length)}\n\n${section}\n\n${page.slice(close)}`;
}

// The report of a run: tests record versions, counts and times while they run, and the end of the run prints them in
// one table. Each record is one line of JSON in a file, since every test file runs in its own process.

import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { inject } from "vitest";

interface ReportRecord {
  readonly section: string;
  readonly what: string;
  readonly value: string;
}

const FILE = "report.jsonl";

// A table as wide as its longest error message is unreadable, and a log may keep only its last part.
const CELL_LIMIT = 90;

/**
 * Records a result under a section, such as `record("restart", "Decrypt calls", 3)`. Numbers are printed with at most
 * one decimal; name the unit in `what` (`ms`, `s`, `per s`).
 */
export function record(section: string, what: string, value: string | number): void {
  recordIn(inject("runFolder"), section, what, value);
}

/** Records a result outside of a test, for which the folder of the run must be given. */
export function recordIn(runFolder: string, section: string, what: string, value: string | number): void {
  const text = typeof value === "number" ? String(Math.round(value * 10) / 10) : value;
  const line: ReportRecord = { section, what, value: text };
  appendFileSync(join(runFolder, FILE), `${JSON.stringify(line)}\n`);
}

/** Returns the median, 99th percentile and maximum of durations, in ms, on one line. */
export function summary(durationsMs: readonly number[]): string {
  const sorted = [...durationsMs].sort((a, b) => a - b);
  const at = (part: number): string =>
    (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? NaN).toFixed(1);
  return `p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)} (n = ${sorted.length})`;
}

/** Returns a Markdown table of everything recorded in a run; empty if nothing was recorded. */
export function renderReport(runFolder: string): string {
  const path = join(runFolder, FILE);
  if (!existsSync(path)) return "";
  const lines = readFileSync(path, "utf8").trimEnd().split("\n");
  const records = lines.map((line) => JSON.parse(line) as ReportRecord);
  const sections = [...new Set(records.map(({ section }) => section))];
  const rows = sections.flatMap((section) =>
    records
      .filter((one) => one.section === section)
      .map((one) => [one.section, one.what, shortened(one.value)]),
  );
  const table = [["case", "what", "measured"], ...rows];
  const widths = [0, 1, 2].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  const print = (row: string[], fill = " "): string =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0, fill)).join(" | ")} |`;
  const [head = [], ...body] = table;
  return [print(head), print(["-", "-", "-"], "-"), ...body.map((row) => print(row))].join("\n");
}

function shortened(text: string): string {
  return text.length <= CELL_LIMIT ? text : `${text.slice(0, CELL_LIMIT - 1)}…`;
}

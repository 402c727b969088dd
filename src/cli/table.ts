// Tables for people, without rules; table-layout.ts makes them fit a terminal. A cell's text from others stays on its line.
import { createRequire } from "node:module";
import type Table from "cli-table3";
import { oneLine } from "../untrusted-text.js";
import { outputColumns } from "./output.js";
import { fitTable, type FittingTable } from "./table-layout.js";

const require = createRequire(import.meta.url);

/** One line, or a list of lines. */
export type Cell = string | readonly string[];

/**
 * Returns a table without rules, with two spaces between its columns. On a narrow terminal it is made to fit.
 * @param columns of the terminal; Infinity if it need not fit
 */
export function formatTable(
  head: readonly string[],
  rows: readonly (readonly Cell[])[],
  columns = outputColumns(),
): string {
  return draw(fitTable(head, linesOf(rows), columns));
}

/** Returns names and values for people who compare them before they decide: a key_id is never shortened. */
export function formatFacts(rows: readonly (readonly Cell[])[], columns = outputColumns()): string {
  return draw(fitTable(["", ""], linesOf(rows), columns, "whole")).trimStart();
}

function linesOf(rows: readonly (readonly Cell[])[]): FittingTable["rows"] {
  return rows.map((row) => row.map((cell) => [cell].flat().map(oneLine)));
}

function draw(fitted: FittingTable | string): string {
  return typeof fitted === "string" ? fitted : drawTable(fitted);
}

function drawTable({ head, rows }: FittingTable): string {
  // Loaded for the first table only.
  const CliTable = require("cli-table3") as typeof Table;
  const table = new CliTable({
    head: [...head],
    style: { head: [], border: [], "padding-left": 0, "padding-right": 2 },
    chars: NO_LINES,
  });
  table.push(...rows.map((row) => row.map((lines) => lines.join("\n"))));
  return table
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");
}

const NO_LINES = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: "",
};

// Makes a table fit a terminal: first it shortens key_ids to prefixes that commands accept, then it wraps the widest
// columns, and on a very narrow terminal it puts each cell on a line of its own. Lengths are in UTF-16 code units.
import { isKeyId } from "../hsm/key-id.js";

/** Cells as lines. */
export interface FittingTable {
  readonly head: readonly string[];
  readonly rows: readonly (readonly (readonly string[])[])[];
}

const GAP = 2;
/** No column is made narrower than this, unless its longest word is shorter. */
const LEAST_WIDTH = 18;
/** Narrower columns are wrapped only if the table does not fit otherwise. */
const UNBROKEN_WIDTH = 8;
/** A key_id's beginning shows when its KEK was made; shorter prefixes look alike. */
const LEAST_PREFIX = 11;

/** All key_ids that have been shown, so that a prefix means the same in every table of a command. */
const shownKeyIds = new Set<string>();

/**
 * Returns the table so that it fits, or text if the terminal is too narrow for a table.
 * @param keyIds "whole" breaks a key_id over several lines instead of shortening it
 */
export function fitTable(
  head: readonly string[],
  rows: FittingTable["rows"],
  columns: number,
  keyIds: "short" | "whole" = "short",
): FittingTable | string {
  if (totalOf(widthsOf(head, rows)) <= columns) return { head, rows };
  const short = keyIds === "short" ? shortenKeyIds(rows) : rows;
  const widths = widthsOf(head, short);
  const leastWidths = (unbroken: number): number[] =>
    head.map((name, at) => Math.max(name.length, leastWidth(short, at), Math.min(widths[at] ?? 0, unbroken)));
  const least = [leastWidths(UNBROKEN_WIDTH), leastWidths(0)].find((one) => totalOf(one) <= columns);
  if (least === undefined) return asRecords(head, short, columns);
  const limit = commonLimit(widths, least, columns);
  const fitted = short.map((row) =>
    row.map((lines, at) => lines.flatMap((line) => wrap(line, Math.max(least[at] ?? 0, limit)))),
  );
  return { head, rows: fitted };
}

function widthsOf(head: readonly string[], rows: FittingTable["rows"]): number[] {
  return head.map((name, at) => Math.max(name.length, ...rows.map((row) => widthOf(row[at] ?? []))));
}

function widthOf(lines: readonly string[]): number {
  return Math.max(0, ...lines.map((line) => line.length));
}

function totalOf(widths: readonly number[]): number {
  return widths.reduce((sum, width) => sum + width, 0) + GAP * (widths.length - 1);
}

function leastWidth(rows: FittingTable["rows"], at: number): number {
  const parts = rows.flatMap((row) => (row[at] ?? []).flatMap(partsOf));
  return Math.min(LEAST_WIDTH, Math.max(0, ...parts.map((part) => part.trimEnd().length)));
}

/** Returns the largest width that all columns may have, so that the table fits. */
function commonLimit(widths: readonly number[], least: readonly number[], columns: number): number {
  for (let limit = Math.max(...widths); limit > 0; limit--) {
    if (totalOf(widths.map((width, at) => Math.min(width, Math.max(least[at] ?? 0, limit)))) <= columns) {
      return limit;
    }
  }
  return 1;
}

/** Returns the parts between which a line may be broken: words, and the parts of instants, addresses and labels. */
function partsOf(line: string): string[] {
  return line.match(/.+?(?:\s+|[/,;=](?=\S)|(?=T\d\d:)|(?=@)|$)/gu) ?? [];
}

function wrap(line: string, width: number): string[] {
  if (line.length <= width) return [line];
  const lines: string[] = [];
  let current = "";
  for (let part of partsOf(line)) {
    if ((current + part).trimEnd().length > width && current !== "") {
      lines.push(current.trimEnd());
      current = "";
    }
    while (part.trimEnd().length > width) {
      lines.push(part.slice(0, width));
      part = part.slice(width);
    }
    current += part;
  }
  return current.trim() === "" ? lines : [...lines, current.trimEnd()];
}

const WORD_LIKE_KEY_ID = /\b[0-9a-fh]+\.[a-z][0-9a-f]*\b/gu;

/** Shortens the key_ids in all cells. */
function shortenKeyIds(rows: FittingTable["rows"]): FittingTable["rows"] {
  const words = rows.flat(2).flatMap((line) => line.match(WORD_LIKE_KEY_ID) ?? []);
  for (const word of words) if (isKeyId(word)) shownKeyIds.add(word);
  const shortenIn = (line: string): string =>
    line.replace(WORD_LIKE_KEY_ID, (word) => (isKeyId(word) ? shorten(word) : word));
  return rows.map((row) => row.map((lines) => lines.map(shortenIn)));
}

/** Returns the shortest prefix that no other key_id shown has, and an ellipsis. */
function shorten(keyId: string): string {
  const others = [...shownKeyIds].filter((other) => other !== keyId);
  let length = LEAST_PREFIX;
  while (others.some((other) => other.startsWith(keyId.slice(0, length)))) length++;
  return length + 1 >= keyId.length ? keyId : `${keyId.slice(0, length)}…`;
}

/** Returns each row as lines of name and value, with an empty line between rows. */
function asRecords(head: readonly string[], rows: FittingTable["rows"], columns: number): string {
  const hasHead = head.some((name) => name !== "");
  const indent = hasHead ? Math.max(...head.map((name) => name.length)) + GAP : GAP;
  const width = Math.max(1, columns - indent);
  const record = (row: FittingTable["rows"][number]): string =>
    row
      .map((lines, at) => ({ lines: lines.flatMap((line) => wrap(line, width)), name: head[at] ?? "", at }))
      .filter(({ lines }) => lines.join("") !== "")
      .flatMap(({ lines, name, at }) =>
        lines.map((line, first) => {
          if (!hasHead) return (at === 0 ? "" : " ".repeat(indent)) + line;
          return (first === 0 ? name : "").padEnd(indent) + line;
        }),
      )
      .join("\n");
  return rows.map(record).join(hasHead ? "\n\n" : "\n");
}

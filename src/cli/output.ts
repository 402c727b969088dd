// The output of every command: a table for people or JSON for programs on standard output, errors on standard error. No
// command prints a PIN, a DEK seed or a KEK. Control characters in text from others are escaped.
import { EXIT_OUTPUT } from "./exit-code.js";
import { escapeControls } from "../untrusted-text.js";
import { coloured, showsColours } from "./colour.js";
import { liveLine } from "./live-line.js";

export type OutputFormat = "table" | "json";

export interface Terminal {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Standard error is a terminal: progress may be drawn. */
  readonly isInteractive: boolean;
}

export const PROCESS_TERMINAL: Terminal = {
  out: (text) => {
    print(process.stdout, text);
  },
  err: (text) => {
    print(process.stderr, text);
  },
  isInteractive: process.stderr.isTTY && process.env["TERM"] !== "dumb",
};

function print(stream: NodeJS.WriteStream, text: string): void {
  liveLine.erase();
  const escaped = escapeControls(text);
  stream.write(`${showsColours(stream) ? coloured(escaped) : escaped}\n`);
}

// Here, since the program sets it: the build joins the modules of tables into a copy that only commands use.
let isWide = false;

/** Shows tables in full, whatever the width of the terminal. */
export function showTablesInFull(): void {
  isWide = true;
}

/** Returns the columns that a table may take; Infinity if standard output is not a terminal. */
export function outputColumns(): number {
  return isWide || !process.stdout.isTTY ? Infinity : process.stdout.columns || Infinity;
}

/**
 * Handles failed writes to standard output and standard error. If the reader has left (EPIPE), the command finishes the
 * operation in progress and keeps its exit code. Any other failure is reported with exit code 4, since the result is lost.
 * Call it once, before printing anything.
 * @param report prints what is wrong, in one line on standard error
 */
export function handleOutputErrors(report: (problem: string) => void): void {
  let failed = false;
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (failed || error.code === "EPIPE") return;
    failed = true;
    report(`cannot write to standard output (${error.code ?? error.message})`);
    process.once("exit", () => (process.exitCode = EXIT_OUTPUT));
  });
  // A failure to write to standard error cannot be reported anywhere.
  process.stderr.on("error", () => undefined);
}

/**
 * Writes bytes to standard output; if that is a terminal, as text with control characters escaped. Resolves when the
 * caller may zero them.
 */
export function printBytes(bytes: Uint8Array): Promise<void> {
  const forTerminal = process.stdout.isTTY;
  liveLine.erase();
  if (forTerminal) {
    process.stderr.write("Control characters are escaped; redirect the output to get the bytes unchanged.\n");
  }
  return new Promise((resolve) => {
    process.stdout.write(forTerminal ? `${escapeControls(Buffer.from(bytes).toString())}\n` : bytes, () => {
      resolve();
    });
  });
}

/** Returns indented JSON with the keys in their given order. */
export function formatJson(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

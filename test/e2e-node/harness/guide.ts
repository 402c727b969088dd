// Follows a guide of deploy/: runs the commands of its console blocks on a machine, one after the other, and compares what they
// print with what the guide shows.

import { readFile } from "node:fs/promises";
import { isAsShown, readRunbook, type RunbookStep } from "../../e2e/harness/runbook.js";
import type { Machine } from "./machine.js";

/** An operator has no patience for a longer guide. */
const MAX_COMMANDS = 40;
const REMEMBERED = /^(export|cd) /;

export interface GuideOptions {
  /** The folder in which the commands run. */
  readonly folder: string;
  /** What the operator types if a command reads from the terminal. */
  readonly typed: string;
  /** Returns the command to run instead, if the machine is not as the guide assumes. */
  readonly instead?: ((command: string) => string) | undefined;
  /** The headings of the parts to follow, in this order; if omitted, the whole guide. */
  readonly sections?: readonly string[];
  /** The guide that was followed before: the operator's shell remembers its `export` commands. */
  readonly after?: string;
}

/** Runs the commands of a guide. Returns their number, or throws at the first that fails or prints something else. */
export async function followGuide(machine: Machine, name: string, options: GuideOptions): Promise<number> {
  const steps = await readSteps(name, options.sections);
  if (steps.length >= MAX_COMMANDS) throw new Error(`${name} has ${steps.length} commands`);
  const before = options.after === undefined ? [] : await readSteps(options.after);
  // Each command has a shell of its own; what an operator's shell would remember precedes it.
  const remembered = before.map(({ command }) => command).filter((command) => /^export /.test(command));
  remembered.push(`cd ${options.folder}`, "exec 2>&1");
  for (const { command, output } of steps) {
    if (REMEMBERED.test(command)) {
      remembered.push(command);
      continue;
    }
    const script = [...remembered, options.instead?.(command) ?? command].join("\n");
    const { code, stdout } = await machine.try(script, { input: options.typed, timeoutMs: 300_000 });
    if (code !== 0) throw new Error(`${command}: exit code ${code}\n${stdout}`);
    // apt-get gives dpkg a terminal, which adds carriage returns.
    const printed = stdout.replace(/\r+\n/g, "\n");
    if (!isAsShown(printed, output)) throw new Error(`${command}: not as the guide shows\n${printed}`);
  }
  return steps.length;
}

/** Returns the line of a page's `sh` blocks that begins so. Throws if there is not exactly one. */
export async function commandOf(name: string, beginning: string): Promise<string> {
  const text = await readFile(new URL(`../../../deploy/${name}`, import.meta.url), "utf8");
  const lines = [...text.matchAll(/^```sh\n([^]*?)^```$/gm)].flatMap(([, block = ""]) => block.split("\n"));
  const [found, ...others] = lines.filter((line) => line.startsWith(beginning));
  if (found === undefined || others.length > 0) throw new Error(`${name} has no single command ${beginning}`);
  return found;
}

async function readSteps(name: string, sections?: readonly string[]): Promise<RunbookStep[]> {
  const page = new URL(`../../../deploy/${name}`, import.meta.url);
  if (sections === undefined) return readRunbook(page);
  const parts = await Promise.all(sections.map(async (section) => readRunbook(page, section)));
  const empty = parts.findIndex((part) => part.length === 0);
  if (empty >= 0) throw new Error(`${name} has no commands under "${sections[empty] ?? ""}"`);
  return parts.flat();
}

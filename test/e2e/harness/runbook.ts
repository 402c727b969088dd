// The commands of a runbook and their output: in the `console` blocks of its Markdown, each command follows `$ ` and
// its output follows the command. In the output, `…` matches anything within a line, and alone on a line any number of
// lines.

import { execFile } from "node:child_process";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { MAIN } from "../../support/plugin-process.js";

export interface RunbookStep {
  readonly command: string;
  readonly output: string;
}

const BLOCK = /^```console\n([^]*?)^```$/gm;

/**
 * Returns the commands. @param section the heading of the part to read; if omitted, all parts. Throws for a block
 * without a command.
 */
export async function readRunbook(path: URL, section?: string): Promise<RunbookStep[]> {
  const whole = await readFile(path, "utf8");
  const text = section === undefined ? whole : (whole.split(`\n## ${section}\n`)[1]?.split("\n## ")[0] ?? "");
  return [...text.matchAll(BLOCK)].flatMap(([, block = ""]) => {
    const [before, ...steps] = block.split(/^\$ /m);
    if (before !== "" || steps.length === 0) throw new Error(`no command begins this block:\n${block}`);
    return steps.map((step) => {
      const [command = "", ...output] = step.trimEnd().split("\n");
      return { command, output: output.join("\n") };
    });
  });
}

/**
 * Returns whether a command has printed exactly what the runbook shows; any run of blanks matches any other. Compares
 * line by line: one pattern for the whole output would try every division into lines if a long output does not match.
 */
export function isAsShown(printed: string, shown: string): boolean {
  const lines = printed === "" ? [] : printed.replace(/\n$/, "").split("\n");
  const wanted = shown === "" ? [] : shown.split("\n");
  // If the remaining lines do not match, matching continues from here with the last "…" one line longer.
  let retry: { readonly wantedAt: number; lineAt: number } | undefined;
  let wantedAt = 0;
  for (let lineAt = 0; lineAt < lines.length;) {
    if (wanted[wantedAt] === "…") {
      retry = { wantedAt: ++wantedAt, lineAt };
    } else if (linePattern(wanted[wantedAt])?.test(lines[lineAt] ?? "") === true) {
      wantedAt++;
      lineAt++;
    } else if (retry !== undefined) {
      wantedAt = retry.wantedAt;
      lineAt = ++retry.lineAt;
    } else return false;
  }
  return wanted.slice(wantedAt).every((line) => line === "…");
}

function linePattern(line: string | undefined): RegExp | undefined {
  if (line === undefined) return undefined;
  const literal = line.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  return new RegExp(`^${literal.replace(/ +/g, " +").replaceAll("…", ".*")} *$`);
}

export interface StepResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class RunbookShell {
  readonly #folder: string;
  readonly #env: NodeJS.ProcessEnv;

  private constructor(folder: string, env: NodeJS.ProcessEnv) {
    this.#folder = folder;
    this.#env = env;
  }

  /** @param folder the working folder, in which `kms-pkcs11` is added to the path */
  static async create(folder: string, env: Readonly<Record<string, string>>): Promise<RunbookShell> {
    const bin = join(folder, "bin");
    await mkdir(bin, { recursive: true });
    const command = join(bin, "kms-pkcs11");
    await writeFile(command, `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`);
    await chmod(command, 0o755);
    const path = `${bin}:${process.env["PATH"] ?? ""}`;
    return new RunbookShell(folder, { ...process.env, ...env, PATH: path });
  }

  /** Runs a command as an operator's shell does; any exit code is a result. */
  async run(command: string): Promise<StepResult> {
    const options = { cwd: this.#folder, env: this.#env, timeout: 120_000 };
    try {
      return { code: 0, ...(await promisify(execFile)("/bin/sh", ["-c", command], options)) };
    } catch (error) {
      const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
      return { code, stdout, stderr };
    }
  }
}

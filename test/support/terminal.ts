// A command of the built plugin on a terminal, on which somebody types an answer.

import { spawn } from "node:child_process";
import { once } from "node:events";

import { MAIN, type CommandResult } from "./plugin-process.js";

export interface Typed {
  /** What the command asks. */
  readonly prompt: string;
  /** What is typed when it does. */
  readonly answer: string;
}

/** Runs `kms-pkcs11 ...args` and returns what the terminal shows as its standard output. */
export async function onTerminal(
  { prompt, answer }: Typed,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<CommandResult> {
  const quoted = [process.execPath, MAIN, ...args].map((arg) => `'${arg}'`).join(" ");
  const child = spawn("script", ["--quiet", "--return", "--command", quoted, "/dev/null"], {
    env: { ...process.env, ...env },
  });
  let screen = "";
  child.stdin.on("error", () => undefined);
  child.stdout.on("data", (chunk: Buffer) => {
    const before = screen.includes(prompt);
    screen += chunk.toString();
    if (!before && screen.includes(prompt)) child.stdin.write(answer);
  });
  const [code] = (await once(child, "close")) as [number];
  return { code, stdout: screen, stderr: "" };
}

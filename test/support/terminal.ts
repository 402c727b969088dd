// A command of the built plugin on a terminal, on which somebody types.

import { spawn } from "node:child_process";
import { once } from "node:events";

import { MAIN, type CommandResult } from "./plugin-process.js";

export interface Typed {
  /** What the command asks. */
  readonly prompt: string;
  /** What is typed when it does. */
  readonly answer: string;
}

export interface TerminalSession {
  /** Types text; "\x03" is Ctrl-C. */
  readonly type: (text: string) => void;
  /** What the terminal has shown so far. */
  readonly screen: () => string;
  /** What the terminal shows until the command ends, as its standard output. */
  readonly ended: Promise<CommandResult>;
}

/** Runs `kms-pkcs11 ...args` on a terminal, and answers a question. */
export function openTerminal(
  { prompt, answer }: Typed,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): TerminalSession {
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
  const ended = once(child, "close").then(([code]) => ({ code: code as number, stdout: screen, stderr: "" }));
  return { type: (text) => child.stdin.write(text), screen: () => screen, ended };
}

/** Runs `kms-pkcs11 ...args` and returns what the terminal shows as its standard output. */
export function onTerminal(
  typed: Typed,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<CommandResult> {
  return openTerminal(typed, args, env).ended;
}

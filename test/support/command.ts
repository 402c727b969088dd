// The built program's commands, run in the process of the test: they load and do what a process of their own would, and
// cost no start of Node.js. What concerns the process itself (signals, terminals, limits, a clock of its own, several
// commands at once) is tested with `kmsPkcs11` and `spawn`.

import { PassThrough } from "node:stream";

import { vi } from "vitest";

import { checkJsonOutput } from "./output-schema.js";
import { MAIN, type CommandResult } from "./plugin-process.js";

const PROGRAM = MAIN.replace("main.js", "cli/program.js");

/** The commands so far: they share what belongs to the process, so each waits for the one before it. */
let last: Promise<unknown> = Promise.resolve();

/**
 * Runs one command to its end, after those that were started before it.
 * @param env variables in addition to those of this process, for the command and its token hosts
 * @param input what the command reads on standard input
 */
export function runCommand(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  input: string | Buffer = "",
): Promise<CommandResult> {
  const next = last.then(() => runAlone(args, env, input));
  last = next.catch(() => undefined);
  return next;
}

async function runAlone(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  input: string | Buffer,
): Promise<CommandResult> {
  const { run } = (await import(PROGRAM)) as { run: (argv: readonly string[]) => Promise<void> };
  const [stdout, stderr] = [capture(process.stdout), capture(process.stderr)];
  const restore = [stdout.end, stderr.end, replaceInput(input), keepExitCode(), addToEnvironment(env)];
  try {
    await run([process.execPath, MAIN, ...args]);
    const result = { code: Number(process.exitCode ?? 0), stdout: stdout.text(), stderr: stderr.text() };
    checkJsonOutput(args, result);
    return result;
  } finally {
    for (const undo of restore) undo();
  }
}

function replaceInput(input: string | Buffer): () => void {
  const original = Object.getOwnPropertyDescriptor(process, "stdin");
  const stream = new PassThrough().end(input);
  Object.defineProperty(process, "stdin", { configurable: true, value: stream });
  return () => {
    if (original !== undefined) Object.defineProperty(process, "stdin", original);
  };
}

function keepExitCode(): () => void {
  const { exitCode } = process;
  process.exitCode = undefined;
  return () => {
    process.exitCode = exitCode;
  };
}

function addToEnvironment(env: Readonly<Record<string, string>>): () => void {
  const before = { ...process.env };
  Object.assign(process.env, env);
  return () => {
    for (const name of Object.keys(env)) {
      if (before[name] === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = before[name];
    }
  };
}

/** Collects what is written to a stream instead of writing it, and removes the listeners that the command adds. */
function capture(stream: NodeJS.WriteStream): { text: () => string; end: () => void } {
  const chunks: Buffer[] = [];
  const listeners = stream.listeners("error");
  const writes = vi.spyOn(stream, "write").mockImplementation((chunk, ...more: unknown[]) => {
    chunks.push(typeof chunk === "string" ? Buffer.from(chunk) : Buffer.from(chunk));
    const done = more.find((one) => typeof one === "function");
    if (done !== undefined) process.nextTick(done);
    return true;
  });
  return {
    text: () => Buffer.concat(chunks).toString(),
    end: () => {
      writes.mockRestore();
      for (const listener of stream.listeners("error")) {
        if (!listeners.includes(listener)) stream.off("error", listener as () => void);
      }
    },
  };
}

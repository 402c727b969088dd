// Runs one command and returns what it printed. Knows nothing about nodes.

import { spawn } from "node:child_process";

export interface CommandOptions {
  readonly input?: string | undefined;
  /** Default 60 s. The command gets SIGKILL afterwards. */
  readonly timeoutMs?: number | undefined;
}

export interface CommandResult {
  /** The exit code; -1 if a signal ended the command. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command; any exit code is a result. Rejects if the command cannot be started. */
export async function tryCommand(
  command: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  // Node's own pipes are sockets, which a command cannot open as /dev/stdin.
  const piped = options.input === undefined ? command : ["/bin/sh", "-c", 'cat | "$@"', "sh", ...command];
  const [program = "", ...args] = piped;
  const child = spawn(program, args, {
    stdio: ["pipe", "pipe", "pipe"],
    timeout: options.timeoutMs ?? 60_000,
    killSignal: "SIGKILL",
  });
  const output = { stdout: "", stderr: "" };
  child.stdout.on("data", (data: Buffer) => (output.stdout += data.toString()));
  child.stderr.on("data", (data: Buffer) => (output.stderr += data.toString()));
  // The command may end without having read its input.
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.input ?? "");
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      resolve({ code: code ?? -1, ...output });
    });
  });
}

/** Runs a command and returns its standard output, or throws with everything that it printed. */
export async function runCommand(command: readonly string[], options?: CommandOptions): Promise<string> {
  const { code, stdout, stderr } = await tryCommand(command, options);
  if (code === 0) return stdout;
  throw new Error(`${command.join(" ")}: exit code ${code}\n${stdout}${stderr}`);
}

// A command line that cannot be run, with the command that refused it. Thrown in place of commander's error, whose text
// names neither the command nor the surplus words.
import type { Command, CommanderError } from "commander";

export class UsageError extends Error {
  override readonly name = "UsageError";

  /** The command that refused the line: the last one that it names. */
  readonly command: Command;
  /** Commander's code, such as "commander.unknownCommand". */
  readonly code: string;

  /** @param message without "error: " */
  constructor(command: Command, code: string, message: string) {
    super(message);
    this.command = command;
    this.code = code;
  }
}

/** Makes a command throw UsageError; help and version still end with commander's own error. */
export function throwUsageErrors(command: Command): void {
  command.exitOverride((error: CommanderError) => {
    if (error.exitCode === 0) throw error;
    const message = error.code === "commander.help" ? "the command is incomplete" : error.message;
    throw new UsageError(command, error.code, message.replace(/^error: /u, ""));
  });
}

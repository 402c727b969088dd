// `kms-pkcs11 lock`: has a running plugin forget its PIN and every seed, and log out of its tokens.
import type { Command } from "commander";
import { z } from "zod";
import { EXIT_NO } from "./exit-code.js";
import { printResult } from "./next-step.js";
import type { OutputFormat, Terminal } from "./output.js";
import { askPlugin, DEFAULT_UNLOCK_SOCKET, orderBytes, requirePlugin } from "./unlock-client.js";
import type { LockOutput } from "./output-schema/custody.js";

interface LockOptions {
  readonly socket: string;
  readonly output: OutputFormat;
}

const answerSchema = z.object({ locked: z.boolean().default(false), message: z.string() });

/** Adds `lock`. */
export function addLockCommand(program: Command, terminal: Terminal): void {
  program
    .command("lock")
    .option("--socket <path>", "the plugin's pin.unlock", DEFAULT_UNLOCK_SOCKET)
    .addHelpText(
      "after",
      `
The plugin zeroes its cached seeds, local KEKs and PIN within a second, and replaces its token hosts, which logs it out.
For kube-apiserver this is an outage of the HSM: it continues with the seeds that it has decrypted, and Status keeps answering
for health.outageGracePeriod. /readyz says at once that the plugin is locked. It needs pin.unlock for every token.

Example:
  kms-pkcs11 lock`,
    )
    .action(async (_local, command: Command) => {
      const { socket, output } = command.optsWithGlobals<LockOptions>();
      await requirePlugin(socket, terminal);
      const answer = await askPlugin(socket, orderBytes("lock"), answerSchema);
      const change = answer.locked ? ({ did: "lock" } as const) : undefined;
      printResult(
        { json: answer satisfies Omit<LockOutput, "next">, text: answer.message, change },
        output,
        terminal,
      );
      if (!answer.locked) process.exitCode = EXIT_NO;
    });
}

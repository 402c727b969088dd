// `kms-pkcs11 unlock`: sends the PIN, or one custodian's share of it, to a running plugin. Reads it from a terminal without
// echo, or from standard input. Neither is ever in an argument, the environment or a file.
import type { Command } from "commander";
import { z } from "zod";
import { MAX_PIN_BYTES } from "../config/read-pin.js";
import { EXIT_NO } from "./exit-code.js";
import { printResult, type Change } from "./next-step.js";
import type { OutputFormat, Terminal } from "./output.js";
import { readHidden } from "./read-hidden.js";
import { askPlugin, DEFAULT_UNLOCK_SOCKET, orderBytes, requirePlugin } from "./unlock-client.js";
import type { UnlockOutput } from "./output-schema/custody.js";

interface UnlockOptions {
  readonly socket: string;
  readonly share?: true;
  readonly output: OutputFormat;
}

const answerSchema = z.object({
  unlocked: z.boolean(),
  message: z.string(),
  accepted: z.boolean().optional(),
});
const attemptSchema = z.union([
  z.object({
    nonce: z.string().regex(/^[0-9a-f]{32}$/),
    epoch: z.number(),
    count: z.number(),
    threshold: z.number(),
  }),
  answerSchema,
]);

/** More than the longest share as custody/share.ts reads it, in bytes; loading that for the PIN would cost time. */
const MAX_SHARE_BYTES = 256;

/** Adds `unlock`. */
export function addUnlockCommand(program: Command, terminal: Terminal): void {
  program
    .command("unlock")
    .option("--socket <path>", "the plugin's pin.unlock", DEFAULT_UNLOCK_SOCKET)
    .option("--share", "send one custodian's share of a split PIN instead of the PIN (pin.custody)")
    .addHelpText(
      "after",
      `
Prompts for the PIN on a terminal; otherwise reads it from standard input. A wrong PIN costs one PIN attempt.

With --share each custodian runs the command once. The plugin keeps the shares in memory until there are enough, at most 10
minutes after the first one, and then tries the PIN once. A wrong, foreign or outdated share is refused with its reason; the
other shares stay, and no PIN attempt is made. Exit code 0 means that the share was accepted.

Examples:
  kms-pkcs11 unlock
  systemd-ask-password 'PIN of the KMS token' | kms-pkcs11 unlock
  kms-pkcs11 unlock --share`,
    )
    .action(async (_local, command: Command) => {
      const { socket, share, output } = command.optsWithGlobals<UnlockOptions>();
      await requirePlugin(socket, terminal);
      const answer = share === true ? await sendShare(socket, terminal) : await sendPin(socket);
      printResult(
        { json: answer satisfies Omit<UnlockOutput, "next">, text: answer.message, change: changeOf(answer) },
        output,
        terminal,
      );
      if (!answer.unlocked && answer.accepted !== true) process.exitCode = EXIT_NO;
    });
}

type Answer = z.infer<typeof answerSchema>;

function changeOf({ unlocked, accepted }: Answer): Change | undefined {
  if (unlocked) return { did: "unlock" };
  return accepted === true ? { did: "send a share" } : undefined;
}

async function sendPin(socket: string): Promise<Answer> {
  const pin = await readHidden("PIN: ", MAX_PIN_BYTES + 2, "nothing was sent");
  try {
    return await askPlugin(socket, pin, answerSchema);
  } finally {
    pin.fill(0);
  }
}

/** Asks for the state of the attempt first, so that no share is typed in vain. */
async function sendShare(socket: string, terminal: Terminal): Promise<Answer> {
  const attempt = await askPlugin(socket, orderBytes("shares"), attemptSchema);
  if (!("nonce" in attempt)) return attempt;
  const { nonce, epoch, count, threshold } = attempt;
  terminal.err(`epoch ${epoch}: ${count} of ${threshold} shares so far`);
  const share = await readHidden("Share: ", MAX_SHARE_BYTES, "nothing was sent");
  const order = orderBytes(`share ${nonce} `, share);
  share.fill(0);
  try {
    return await askPlugin(socket, order, answerSchema);
  } finally {
    order.fill(0);
  }
}

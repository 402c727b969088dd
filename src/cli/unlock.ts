// `kms-pkcs11 unlock`: hands the PIN over to a running plugin, from a terminal without showing it or from standard
// input. The PIN is in no argument, no environment and no file.
import { lstatSync, statSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import type { Command } from "commander";
import { z } from "zod";
import { MAX_PIN_BYTES } from "../config/read-pin.js";
import { KmsError } from "../errors.js";
import { folderProblem } from "../files/ownership.js";
import { EXIT_NO } from "./exit-code.js";
import { formatJson, type OutputFormat, type Terminal } from "./output.js";
import { readHidden } from "./read-hidden.js";

interface UnlockOptions {
  readonly socket: string;
  readonly output: OutputFormat;
}

const answerSchema = z.object({ unlocked: z.boolean(), message: z.string() });

type Answer = z.infer<typeof answerSchema>;

/** Longer than the plugin waits for the token. */
const ANSWER_LIMIT_MS = 30_000;
const ANSWER_LIMIT_BYTES = 64 * 1024;

export function addUnlockCommand(program: Command, terminal: Terminal): void {
  program
    .command("unlock")
    .description(
      "hand the token's PIN over to a running plugin; exit 0 if the token has taken it, 1 if not, 3 if there is no plugin",
    )
    .option("--socket <path>", "the plugin's pin.unlock", "/run/kms-pkcs11/unlock.sock")
    .addHelpText(
      "after",
      `
Asks for the PIN on a terminal; otherwise reads it from standard input. A wrong PIN costs one attempt.

Examples:
  kms-pkcs11 unlock
  systemd-ask-password 'PIN of the KMS token' | kms-pkcs11 unlock`,
    )
    .action(async (_local, command: Command) => {
      const { socket, output } = command.optsWithGlobals<UnlockOptions>();
      requireSafePlace(socket, terminal);
      await requireListener(socket);
      const pin = await readHidden("PIN: ", MAX_PIN_BYTES + 2);
      try {
        const answer = await handOver(socket, pin);
        if (output === "json") terminal.out(formatJson(answer));
        else terminal.out(answer.message);
        if (!answer.unlocked) process.exitCode = EXIT_NO;
      } finally {
        pin.fill(0);
      }
    });
}

/** Where others may put a socket, any of them could listen for the PIN. @throws KmsError SOCKET_UNUSABLE */
function requireSafePlace(path: string, terminal: Terminal): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new KmsError("SOCKET_UNUSABLE", `${path} is no socket; give the plugin's pin.unlock to --socket`);
  }
  const problem = folderProblem(dirname(path), { danger: "listen there for the PIN", forAnotherUser: true });
  if (problem !== undefined) throw new KmsError("SOCKET_UNUSABLE", problem);
  const { uid } = statSync(dirname(path));
  // Root does not know the plugin's user, and has to see whom the PIN goes to.
  if (uid !== 0 && uid !== process.geteuid?.()) {
    terminal.err(`the PIN goes to a process of user ${uid}, to whom ${dirname(path)} belongs`);
  }
}

/** Nobody types a PIN that nobody takes. @throws KmsError PEER_UNREACHABLE */
async function requireListener(path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const probe = connect({ path });
    probe.on("error", (error) => {
      reject(unreachable(path, error));
    });
    probe.on("connect", () => {
      probe.destroy();
      resolve();
    });
  });
}

function unreachable(path: string, error: Error): KmsError {
  const problem = `${error.message}; is the plugin running, with pin.unlock set, and are you its user or root?`;
  return new KmsError("PEER_UNREACHABLE", `${path}: ${problem}`, error);
}

/** @throws KmsError PEER_UNREACHABLE */
async function handOver(path: string, pin: Buffer): Promise<Answer> {
  const text = await new Promise<string>((resolve, reject) => {
    const socket = connect({ path, allowHalfOpen: true });
    let received = "";
    socket.setTimeout(ANSWER_LIMIT_MS, () => socket.destroy(new Error("no answer")));
    socket.on("error", (error) => {
      reject(unreachable(path, error));
    });
    socket.on("data", (chunk) => {
      received += chunk.toString();
      if (received.length > ANSWER_LIMIT_BYTES) socket.destroy(new Error("this is no plugin's answer"));
    });
    socket.on("end", () => {
      resolve(received);
    });
    socket.end(pin);
  });
  try {
    return answerSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new KmsError(
      "PEER_UNREACHABLE",
      `${path}: what listens there is no plugin that takes a PIN`,
      error,
    );
  }
}

// `kms-pkcs11 unlock`: sends the PIN to a running plugin. Reads it from a terminal without echo, or from standard
// input. The PIN is never in an argument, the environment or a file.
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

/** Adds `unlock`. */
export function addUnlockCommand(program: Command, terminal: Terminal): void {
  program
    .command("unlock")
    .option("--socket <path>", "the plugin's pin.unlock", "/run/kms-pkcs11/unlock.sock")
    .addHelpText(
      "after",
      `
Prompts for the PIN on a terminal; otherwise reads it from standard input. A wrong PIN costs one PIN attempt.

Examples:
  kms-pkcs11 unlock
  systemd-ask-password 'PIN of the KMS token' | kms-pkcs11 unlock`,
    )
    .action(async (_local, command: Command) => {
      const { socket, output } = command.optsWithGlobals<UnlockOptions>();
      requireTrustedFolder(socket, terminal);
      await requireListener(socket);
      const pin = await readHidden("PIN: ", MAX_PIN_BYTES + 2);
      try {
        const answer = await sendPin(socket, pin);
        if (output === "json") terminal.out(formatJson(answer));
        else terminal.out(answer.message);
        if (!answer.unlocked) process.exitCode = EXIT_NO;
      } finally {
        pin.fill(0);
      }
    });
}

/** Checks that no other user could create the socket and receive the PIN. @throws KmsError SOCKET_UNUSABLE */
function requireTrustedFolder(path: string, terminal: Terminal): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new KmsError(
      "SOCKET_UNUSABLE",
      `${path} is not a socket; give the plugin's pin.unlock to --socket`,
    );
  }
  const problem = folderProblem(dirname(path), { danger: "listen there for the PIN", forAnotherUser: true });
  if (problem !== undefined) throw new KmsError("SOCKET_UNUSABLE", problem);
  const { uid } = statSync(dirname(path));
  // Root does not know the plugin's user and must be able to see who receives the PIN.
  if (uid !== 0 && uid !== process.geteuid?.()) {
    terminal.err(`sending the PIN to a process of user ${uid}, the owner of ${dirname(path)}`);
  }
}

/** Checks that a plugin listens before the operator types the PIN. @throws KmsError PEER_UNREACHABLE */
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

/** Sends the PIN and returns the plugin's answer. @throws KmsError PEER_UNREACHABLE */
async function sendPin(path: string, pin: Buffer): Promise<Answer> {
  const text = await new Promise<string>((resolve, reject) => {
    const socket = connect({ path, allowHalfOpen: true });
    let received = "";
    socket.setTimeout(ANSWER_LIMIT_MS, () => socket.destroy(new Error("no answer")));
    socket.on("error", (error) => {
      reject(unreachable(path, error));
    });
    socket.on("data", (chunk) => {
      received += chunk.toString();
      if (received.length > ANSWER_LIMIT_BYTES) socket.destroy(new Error("the answer is too long"));
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
      `${path}: the answer is not from a compatible plugin; give the plugin's pin.unlock to --socket`,
      error,
    );
  }
}

// The client's side of the plugin's unlock socket: who would receive the message, and the exchange of one message for
// one answer. The commands decide what the messages mean.
import { lstatSync, statSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import type { z } from "zod";
import { KmsError } from "../errors.js";
import { folderProblem } from "../files/ownership.js";
import type { Terminal } from "./output.js";

/** Where `pin.unlock` usually is. */
export const DEFAULT_UNLOCK_SOCKET = "/run/kms-pkcs11/unlock.sock";

/** Longer than the plugin waits for the token. */
const ANSWER_LIMIT_MS = 30_000;
const ANSWER_LIMIT_BYTES = 64 * 1024;

/**
 * Checks, before the operator types a secret, that no other user could create the socket and receive it, and that a plugin
 * listens. @throws KmsError SOCKET_UNUSABLE, PEER_UNREACHABLE
 */
export async function requirePlugin(path: string, terminal: Terminal): Promise<void> {
  requireTrustedFolder(path, terminal);
  await requireListener(path);
}

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

/** Sends a message and returns the plugin's answer as `schema` reads it. @throws KmsError PEER_UNREACHABLE */
export async function askPlugin<T>(path: string, message: Uint8Array, schema: z.ZodType<T>): Promise<T> {
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
    socket.end(message);
  });
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    throw new KmsError(
      "PEER_UNREACHABLE",
      `${path}: the answer is not from a compatible plugin; give the plugin's pin.unlock to --socket`,
      error,
    );
  }
}

/** Returns the bytes of an order: a zero byte, which no PIN holds, and words. The caller zeroes them. */
export function orderBytes(words: string, secret: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.from(`\0${words}`);
  const bytes = Buffer.alloc(head.length + secret.length);
  bytes.set(head);
  bytes.set(secret, head.length);
  return bytes;
}

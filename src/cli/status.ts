// `kms-pkcs11 status`: calls a running plugin over its socket, as kube-apiserver does.
import { randomBytes, timingSafeEqual } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import type { Command } from "commander";
import { KmsError } from "../errors.js";
import { durationOf } from "./duration-option.js";
import { EXIT_NO } from "./exit-code.js";
import { reportFailure } from "./failure.js";
import { answeredStatus, KmsClient, type KmsStatus } from "../kms-client/kms-client.js";
import { formatJson, type Terminal } from "./output.js";
import { addPluginSocketOptions, pluginSocket, type PluginSocketOptions } from "./plugin-socket.js";
import { formatTable } from "./table.js";
import type { StatusOutput } from "./output-schema/plugin.js";

interface StatusOptions extends PluginSocketOptions {
  readonly roundTrip?: true;
  readonly timeout: string;
  readonly wait?: string;
}

/** A call, with the socket that it goes to. */
type StatusCall = Omit<StatusOptions, "socket"> & { readonly socket: string };

type RoundTrip = NonNullable<StatusOutput["roundTrip"]>;

const SEED_BYTES = 32;
/** Pause between two calls of `--wait`. */
const WAIT_PAUSE_MS = 200;

/** Adds `status`. */
export function addStatusCommand(program: Command, terminal: Terminal): void {
  addPluginSocketOptions(program.command("status"))
    .option("--round-trip", "also encrypt and decrypt 32 random bytes")
    .option("--timeout <duration>", "time limit of each call", "3s")
    .option("--wait <duration>", "repeat the call until the plugin answers healthz ok, for at most this long")
    .addHelpText(
      "after",
      `
--round-trip shows that API servers can use the plugin. The plugin may answer its Decrypt from the cache. /readyz and
'kms-pkcs11 check' show whether the HSM decrypts; the plugin tests every KEK at each health.proofInterval.

Examples:
  kms-pkcs11 status --round-trip --wait 30s
  kms-pkcs11 status --socket /run/kms-pkcs11/kms.sock`,
    )
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<StatusOptions>();
      // Earlier releases took a bare number of milliseconds.
      const timeout = /^\d+$/u.test(options.timeout) ? `${options.timeout}ms` : options.timeout;
      const timeoutMs = durationOf("--timeout", timeout, "3s", 1);
      const call = { ...options, socket: await pluginSocket(options) };
      if (options.wait !== undefined) {
        await untilHealthy(call, timeoutMs, durationOf("--wait", options.wait, "30s", 1));
      }
      await status(call, timeoutMs, terminal);
    });
}

/** Calls Status until it answers healthz ok or the time is over; the caller's own call reports the outcome. */
async function untilHealthy({ socket }: StatusCall, timeoutMs: number, waitMs: number): Promise<void> {
  const deadline = Date.now() + waitMs;
  while (Date.now() < deadline && !(await isHealthy(socket, timeoutMs))) await pause(WAIT_PAUSE_MS);
}

/** Opens a connection for each call: a channel whose socket was missing waits for at least a second before it retries. */
async function isHealthy(socket: string, timeoutMs: number): Promise<boolean> {
  const client = new KmsClient(socket, timeoutMs);
  try {
    return (await client.status()).healthz === "ok";
  } catch {
    return false;
  } finally {
    client.close();
  }
}

async function status(options: StatusCall, timeoutMs: number, terminal: Terminal): Promise<void> {
  const client = new KmsClient(options.socket, timeoutMs);
  try {
    const answer = await client.status();
    const trip = options.roundTrip === true ? await roundTrip(client, answer) : undefined;
    const json = { ...answer, ...(trip && { roundTrip: trip }) } satisfies StatusOutput;
    if (options.output === "json") terminal.out(formatJson(json));
    else terminal.out(formatTable(["", ""], rows(answer, trip)).trimStart());
    if (answer.healthz !== "ok") process.exitCode = EXIT_NO;
  } catch (error) {
    // A plugin that answers with an error has been reached.
    const answered = answeredStatus(error);
    if (answered === undefined || answered.name === "DEADLINE_EXCEEDED") throw error;
    reportFailure(KmsError.from(error), options.output, terminal, EXIT_NO);
  } finally {
    client.close();
  }
}

/**
 * Encrypts and decrypts as kube-apiserver does.
 * @throws KmsError NOT_AUTHENTIC if the plaintext differs; KEY_UNSUITABLE if Encrypt and Status differ in their key_id
 */
async function roundTrip(client: KmsClient, answer: KmsStatus): Promise<RoundTrip> {
  const seed = randomBytes(SEED_BYTES);
  const startedAt = performance.now();
  const sealed = await client.encrypt(seed, "status-encrypt");
  const encryptedAt = performance.now();
  const opened = await client.decrypt(sealed, "status-decrypt");
  const decryptedAt = performance.now();
  if (opened.length !== seed.length || !timingSafeEqual(opened, seed)) {
    throw new KmsError("NOT_AUTHENTIC", "Decrypt returned another plaintext than the one that was encrypted");
  }
  if (sealed.keyId !== answer.keyId) {
    throw new KmsError(
      "KEY_UNSUITABLE",
      `Encrypt answered with key_id ${sealed.keyId}, Status with ${answer.keyId}`,
    );
  }
  return {
    ciphertextBytes: sealed.ciphertext.length,
    annotations: Object.keys(sealed.annotations),
    keyId: sealed.keyId,
    encryptMs: rounded(encryptedAt - startedAt),
    decryptMs: rounded(decryptedAt - encryptedAt),
  };
}

function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}

function rows(answer: KmsStatus, trip: RoundTrip | undefined): string[][] {
  const basic = [
    ["version", answer.version],
    ["healthz", answer.healthz],
    ["key_id", answer.keyId],
  ];
  if (trip === undefined) return basic;
  const annotations =
    trip.annotations.length === 0 ? "no annotations" : `annotations ${trip.annotations.join(", ")}`;
  return [
    ...basic,
    ["Encrypt", `${SEED_BYTES} bytes to ${trip.ciphertextBytes}, ${annotations}, ${trip.encryptMs} ms`],
    ["Decrypt", `the same ${SEED_BYTES} bytes, ${trip.decryptMs} ms`],
  ];
}

// Reads /keys of a node's plugin over HTTP, directly or through ssh, with limits on time and size. The shape of the answer
// shows whether a plugin listens at the address.
import { setTimeout } from "node:timers/promises";
import { z } from "zod";
import { sshNodeOf } from "../config/node-address.js";
import { KmsError } from "../errors.js";
import { oneLine } from "../untrusted-text.js";
import { getThroughSsh, openTunnel } from "./node-over-ssh.js";

/** One line, since it is shown in lines and tables. */
const text = z.string().max(8_192).transform(oneLine);

const time = z.iso.datetime().nullable();

const nodeKey = z.object({
  keyId: text,
  label: text,
  ckaId: text.default(""),
  state: z.enum(["standby", "due", "active", "retired"]),
  activation: text.nullable(),
  provenAt: text.nullable(),
  failure: text.nullable(),
  notApproved: text.nullable().default(null),
  cameLater: z.boolean().default(false),
});

const answered = z.object({ keyId: text, statusAt: time, encryptAt: time });

/** Earlier releases do not send the fields that have a default here. */
const nodeKeyring = z.object({
  now: z.iso.datetime(),
  activeKeyId: text.nullable(),
  publishedKeyId: text.nullable(),
  dueKeyId: text.nullable().default(null),
  heldBack: text.nullable(),
  readAt: time.default(null),
  remembersSince: time.default(null),
  answered: z.array(answered).max(1_000).default([]),
  keys: z.array(nodeKey).max(1_000),
});

export type NodeKey = z.infer<typeof nodeKey>;

export interface NodeKeyring extends z.infer<typeof nodeKeyring> {
  /** How far the node's clock is ahead of this machine's, in ms; negative when it is behind. */
  readonly clockAheadMs: number;
  /** Largest error of that, in ms: half of the response time. */
  readonly clockErrorMs: number;
}

const TIMEOUT_MS = 3_000;
const MAX_BYTES = 1 << 20;
/** How long a node may take to read its token because it was asked to, in ms. */
const REFRESH_LIMIT_MS = 20_000;
const REFRESH_POLL_MS = 250;

/**
 * Reads one of a node's endpoints, whatever its status.
 * @param limitMs time limit, without that of ssh to connect
 * @throws KmsError PEER_UNREACHABLE when nothing answers there
 */
export async function readNodeText(
  url: URL,
  limitMs = TIMEOUT_MS,
): Promise<{ readonly status: number; readonly text: string }> {
  try {
    const { status, body } = await get(url, limitMs);
    return { status, text: await readBounded(body) };
  } catch (error) {
    throw unreachable(url, reasonOf(error, limitMs), error);
  }
}

interface Response {
  readonly status: number;
  readonly body: AsyncIterable<Uint8Array>;
}

async function get(url: URL, limitMs: number): Promise<Response> {
  const node = sshNodeOf(url);
  if (node !== undefined) return getThroughSsh(node, limitMs);
  const response = await fetch(url, { signal: AbortSignal.timeout(limitMs), redirect: "error" });
  return { status: response.status, body: (response.body ?? []) as AsyncIterable<Uint8Array> };
}

/** Opens the tunnel to a node, if it needs one. @throws KmsError PEER_UNREACHABLE */
async function connect(url: URL): Promise<void> {
  const node = sshNodeOf(url);
  if (node === undefined) return;
  try {
    await openTunnel(node);
  } catch (error) {
    throw unreachable(url, reasonOf(error), error);
  }
}

/** Reads a node's keyring. @throws KmsError PEER_UNREACHABLE when no plugin answers there */
export async function readNode(url: URL): Promise<NodeKeyring> {
  // Connecting does not count: the response time limits how precisely the node's clock is known.
  await connect(url);
  const askedAt = performance.now();
  const { status, text } = await readNodeText(url);
  if (status !== 200) throw unreachable(url, refusalText(url, status), undefined);
  const parsed = nodeKeyring.safeParse(parseJson(text));
  if (!parsed.success) {
    throw unreachable(url, "the response is not from a compatible plugin", parsed.error);
  }
  const tookMs = performance.now() - askedAt;
  const middle = Date.now() - tookMs / 2;
  return {
    ...parsed.data,
    dueKeyId: parsed.data.dueKeyId ?? waiting(parsed.data),
    clockAheadMs: Math.round(Date.parse(parsed.data.now) - middle),
    clockErrorMs: Math.ceil(tookMs / 2),
  };
}

/** A reload may have removed or renamed the cluster. */
function refusalText(url: URL, status: number): string {
  const cluster = url.searchParams.get("cluster");
  const isUnknown = status === 404 && cluster !== null;
  return `HTTP status ${status}${isUnknown ? `: no cluster "${cluster}" is served there` : ""}`;
}

/** An earlier release reports the KEK that the next Status will publish as active. */
function waiting({ activeKeyId, publishedKeyId }: z.infer<typeof nodeKeyring>): string | null {
  return activeKeyId === publishedKeyId ? null : activeKeyId;
}

/**
 * Reads a node's keyring after the node has read its token again, or without that if it takes longer than 20 s.
 * @throws KmsError PEER_UNREACHABLE when no plugin answers there
 */
export async function readNodeRefreshed(url: URL): Promise<NodeKeyring> {
  const asking = new URL(url);
  asking.search = url.search === "" ? "refresh" : `${url.search}&refresh`;
  const until = performance.now() + REFRESH_LIMIT_MS;
  const first = await readNode(asking);
  for (let last = first; ; last = await readNode(asking)) {
    const isRefreshed = last.readAt !== null && Date.parse(last.readAt) >= Date.parse(first.now);
    // An earlier release does not say when it read.
    if (isRefreshed || first.readAt === null || performance.now() >= until) return last;
    await setTimeout(REFRESH_POLL_MS);
  }
}

async function readBounded(body: Response["body"]): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > MAX_BYTES) throw new Error(`the response exceeds ${MAX_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parseJson(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

/** fetch reports the actual error as the cause of a TypeError. */
function reasonOf(error: unknown, limitMs = TIMEOUT_MS): string {
  if (!(error instanceof Error)) return String(error);
  if ([error, error.cause].some(isTimeout)) return `no answer within ${limitMs} ms`;
  return error.cause instanceof Error ? error.cause.message : error.message;
}

function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.name === "TimeoutError";
}

function unreachable(url: URL, reason: string, cause: unknown): KmsError {
  return new KmsError("PEER_UNREACHABLE", `${url.href}: ${reason}`, cause);
}

// What a node's plugin answers at /keys, asked over HTTP with a limit on time and on size. Whatever else stands at
// the address is told from a plugin by the shape of its answer.
import { z } from "zod";
import { KmsError } from "../errors.js";
import { oneLine } from "./output.js";

/** Goes into lines and tables beside what other nodes say. */
const text = z.string().max(8_192).transform(oneLine);

const nodeKey = z.object({
  keyId: text,
  label: text,
  state: z.enum(["standby", "active", "retired"]),
  activation: text.nullable(),
  provenAt: text.nullable(),
  failure: text.nullable(),
});

const nodeKeyring = z.object({
  now: z.iso.datetime(),
  activeKeyId: text.nullable(),
  publishedKeyId: text.nullable(),
  heldBack: text.nullable(),
  keys: z.array(nodeKey).max(1_000),
});

export type NodeKey = z.infer<typeof nodeKey>;

export interface NodeKeyring extends z.infer<typeof nodeKeyring> {
  /** How far the node's clock is ahead of this machine's, in ms; negative when it is behind. */
  readonly clockAheadMs: number;
}

const TIMEOUT_MS = 3_000;
const MAX_BYTES = 1 << 20;

/**
 * The addresses of `--nodes`: URLs of the plugins' HTTP endpoints, separated by commas.
 * @throws KmsError CONFIG_INVALID
 */
export function parseNodes(list: string): URL[] {
  const nodes = list.split(",").map((part) => parseNode(part.trim()));
  const seen = new Set(nodes.map(String));
  if (seen.size === nodes.length) return nodes;
  throw new KmsError("CONFIG_INVALID", "--nodes: names a node twice");
}

function parseNode(address: string): URL {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== "" || url.password !== "") {
    throw new KmsError(
      "CONFIG_INVALID",
      `--nodes: "${address}" is no address of a plugin; give URLs such as http://127.0.0.1:8090, separated by commas`,
    );
  }
  if (url.pathname === "/") url.pathname = "/keys";
  return url;
}

/** @throws KmsError PEER_UNREACHABLE when no plugin answers there */
export async function readNode(url: URL): Promise<NodeKeyring> {
  const askedAt = Date.now();
  let body: string;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS), redirect: "error" });
    if (!response.ok) throw new Error(`it answers HTTP ${String(response.status)}`);
    body = await readBounded(response);
  } catch (error) {
    throw unreachable(url, reasonOf(error), error);
  }
  const parsed = nodeKeyring.safeParse(parseJson(body));
  if (!parsed.success)
    throw unreachable(url, "what answers there is no plugin of this release", parsed.error);
  const middle = (askedAt + Date.now()) / 2;
  return { ...parsed.data, clockAheadMs: Math.round(Date.parse(parsed.data.now) - middle) };
}

async function readBounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > MAX_BYTES) throw new Error(`it answers more than ${String(MAX_BYTES)} bytes`);
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

/** fetch hides what happened in the cause of a TypeError. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "TimeoutError") return `no answer within ${String(TIMEOUT_MS)} ms`;
  return error.cause instanceof Error ? error.cause.message : error.message;
}

function unreachable(url: URL, reason: string, cause: unknown): KmsError {
  return new KmsError("PEER_UNREACHABLE", `${url.href}: ${reason}`, cause);
}

// Delivers the approval of a KEK to nodes and follows it: runs `kms-pkcs11 approvals deliver` on each node through ssh, which
// authenticates the operator, and then asks the node's plugin whether it may activate the KEK. A plugin's HTTP endpoints
// accept nothing: every process on the node can reach them.
import { spawn } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";
import { formatApproval, type Approval } from "../approvals/proposal.js";
import { checkClusterName } from "../config/cluster-name.js";
import { sshNodeOf, type SshNode } from "../config/node-address.js";
import { KmsError } from "../errors.js";
import { mayHaveHadKeyId } from "../hsm/key-id.js";
import { collapseSpaces, truncate } from "../untrusted-text.js";
import { readNode, type NodeKey } from "./node-client.js";
import { sshRun } from "./ssh-tunnel.js";

/** Time for ssh and the command on the node, in ms. */
const DELIVERY_MS = 60_000;
/** Time for a plugin to read the approval, in ms: more than keys.refreshInterval by default. */
const READ_MS = 45_000;
const POLL_MS = 500;
const MAX_OUTPUT = 64 * 1024;
const MAX_PROBLEM = 400;
/** The same on every node; the file comes on standard input. */
const REMOTE = "kms-pkcs11 approvals deliver -";

/** Returns the command for the cluster that the URL of a node names. */
function remoteCommand(url: URL): string {
  const cluster = url.searchParams.get("cluster");
  return cluster === null ? REMOTE : `${REMOTE} --cluster ${checkClusterName(cluster)}`;
}

/** What happened to an approval on one node. */
export interface NodeDelivery {
  readonly url: string;
  /** Whether this command stored it there; false for a node without ssh. */
  readonly isDelivered: boolean;
  /** Whether the node's plugin may activate the KEK; null if that is unknown. */
  readonly isApproved: boolean | null;
  /** What is wrong, or what to do; null if the node may activate the KEK. */
  readonly problem: string | null;
}

/**
 * Delivers an approval to all nodes at the same time; never throws.
 * @param readMs for a plugin to read it
 * @param deliveryMs for ssh and the command on the node
 */
export function deliverToNodes(
  nodes: readonly URL[],
  approval: Approval,
  { readMs = READ_MS, deliveryMs = DELIVERY_MS } = {},
): Promise<NodeDelivery[]> {
  return Promise.all(
    nodes.map(async (url) => {
      const ssh = sshNodeOf(url);
      const failure =
        ssh === undefined ? undefined : await deliverOver(ssh, remoteCommand(url), approval, deliveryMs);
      if (failure !== undefined) return unfinished(url, { isDelivered: false, problem: failure });
      return follow(url, approval, ssh === undefined ? 0 : readMs);
    }),
  );
}

function unfinished(url: URL, what: Pick<NodeDelivery, "isDelivered" | "problem">): NodeDelivery {
  return { url: url.href, isApproved: null, ...what };
}

/** Returns why the node has not stored it; undefined if it has. */
async function deliverOver(
  node: SshNode,
  command: string,
  approval: Approval,
  limitMs: number,
): Promise<string | undefined> {
  const { args, env } = sshRun(node, command);
  const child = spawn("ssh", args, { env, stdio: ["pipe", "ignore", "pipe"] });
  let text = "";
  child.stderr.on("data", (chunk: Buffer) => {
    text = (text + chunk.toString()).slice(-MAX_OUTPUT);
  });
  child.stdin.on("error", () => undefined);
  child.stdin.end(formatApproval(approval));
  // A process that ssh has started, such as a proxy, may keep standard error open after ssh was killed.
  const timer = setTimeout(() => {
    child.kill("SIGKILL");
    child.stderr.destroy();
  }, limitMs);
  const code = await new Promise<number | Error | null>((resolve) => {
    child.once("error", resolve).once("close", resolve);
  });
  clearTimeout(timer);
  if (code === 0) return undefined;
  if (code instanceof Error) return "ssh is not installed; install openssh-client";
  const last = text.split(/[\r\n]+/u).findLast((line) => line.trim() !== "");
  const why = last ?? (code === null ? "no answer in time" : `exit code ${code}`);
  return truncate(collapseSpaces(why), MAX_PROBLEM);
}

/** Asks a node until it may activate the KEK, or the time is over. */
async function follow(url: URL, { proposal }: Approval, readMs: number): Promise<NodeDelivery> {
  const isDelivered = readMs > 0;
  const until = performance.now() + readMs;
  for (;;) {
    const { isApproved, problem } = await ask(url, proposal.keyId ?? "", proposal.label);
    if (isApproved === true || performance.now() >= until) {
      const advice = isDelivered
        ? "the plugin reads it within keys.refreshInterval"
        : `run '${REMOTE} < FILE' there`;
      return { url: url.href, isDelivered, isApproved, problem: problem && `${problem}; ${advice}` };
    }
    await pause(POLL_MS);
  }
}

/** Returns the KEK, which the node's token may name by another method; never another KEK with its label. */
function listed(keys: readonly NodeKey[], keyId: string, label: string): NodeKey | undefined {
  const all = keys.map((one) => one.keyId);
  return (
    keys.find((one) => one.keyId === keyId) ??
    keys.find((one) => one.label === label && mayHaveHadKeyId([one.keyId], keyId, all))
  );
}

function unlisted(keys: readonly NodeKey[], label: string): string {
  const other = keys.find((one) => one.label === label);
  if (other === undefined) return "its plugin does not list the KEK";
  return `its plugin lists another KEK with this label, key_id ${other.keyId}: find out who made it`;
}

async function ask(
  url: URL,
  keyId: string,
  label: string,
): Promise<Pick<NodeDelivery, "isApproved" | "problem">> {
  try {
    const { keys } = await readNode(url);
    const key = listed(keys, keyId, label);
    if (key === undefined) return { isApproved: null, problem: unlisted(keys, label) };
    return { isApproved: key.notApproved === null, problem: key.notApproved };
  } catch (error) {
    return { isApproved: null, problem: KmsError.from(error).message };
  }
}

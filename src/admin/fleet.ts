// Reads what the plugins of all nodes answer at /keys, /readyz and /metrics, for people who look at the fleet.
import { endpointOf } from "../config/node-address.js";
import { KmsError } from "../errors.js";
import { oneLine } from "../untrusted-text.js";
import { readNode, readNodeText, type NodeKeyring } from "./node-client.js";
import { compareNodes, reportOf, unanswered, type NodeReport } from "./node-comparison.js";

/** One node's answers. */
export interface FleetMember {
  readonly url: string;
  /** Why the node does not answer; null if it does. */
  readonly error: string | null;
  readonly keyring?: NodeKeyring;
  readonly readiness?: { readonly ready: boolean; readonly lines: readonly string[] };
  readonly version?: string | undefined;
  readonly clockAheadMs: number | null;
}

/** All nodes, with a line for each difference between them. */
export interface Fleet {
  readonly nodes: readonly FleetMember[];
  readonly differences: readonly string[];
}

/** Asks all nodes at the same time; never throws, and takes a few seconds at most. */
export async function readFleet(urls: readonly URL[]): Promise<Fleet> {
  const read = await Promise.all(urls.map(readMember));
  return {
    nodes: read.map(({ member }) => member),
    differences: [
      ...compareNodes(
        read.map(({ report }) => report),
        undefined,
      ),
      ...versionDifferences(read.map(({ member }) => member)),
    ],
  };
}

async function readMember(url: URL): Promise<{ member: FleetMember; report: NodeReport }> {
  try {
    const [keyring, ready, metrics] = await Promise.all([
      readNode(url),
      readNodeText(endpointOf(url, "readyz")),
      readNodeText(endpointOf(url, "metrics")),
    ]);
    const lines = ready.text.split("\n").filter((line) => line !== "");
    const readiness = { ready: ready.status === 200, lines: lines.map(oneLine) };
    const { clockAheadMs } = keyring;
    const member = {
      url: url.href,
      error: null,
      keyring,
      readiness,
      version: versionIn(metrics.text),
      clockAheadMs,
    };
    return { member, report: reportOf(url.href, keyring) };
  } catch (error) {
    const { message } = KmsError.from(error);
    const member = { url: url.href, error: message, clockAheadMs: null };
    return { member, report: unanswered(url.href, message) };
  }
}

function versionIn(metrics: string): string | undefined {
  return /^kms_pkcs11_build_info\{version="([^"\n]{1,40})"/mu.exec(metrics)?.[1];
}

function versionDifferences(nodes: readonly FleetMember[]): string[] {
  const known = nodes.filter(({ version }) => version !== undefined);
  const versions = new Set(known.map(({ version }) => version));
  if (versions.size < 2) return [];
  return [
    `the nodes run different versions: ${known.map(({ url, version }) => `${url} ${version ?? ""}`).join(", ")}`,
  ];
}

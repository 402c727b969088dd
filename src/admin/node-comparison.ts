// Compares the nodes' plugins with each other and with the tokens: active, standby and retired key_ids. A node that
// lacks a KEK cannot read what another node writes.
import { KmsError } from "../errors.js";
import { clockDifferences } from "./clocks.js";
import type { KeyringView } from "./keyring-view.js";
import { readNode, readNodeRefreshed, type NodeKey, type NodeKeyring } from "./node-client.js";

export interface NodeReport {
  readonly url: string;
  /** The KEK that Status names and Encrypt uses; null for none, or when the node does not answer. */
  readonly activeKeyId: string | null;
  /** The same value, under the field's name in /keys. */
  readonly publishedKeyId: string | null;
  /** The KEK that the next Status call publishes. */
  readonly dueKeyId: string | null;
  readonly standby: readonly string[];
  readonly retired: readonly string[];
  /** KEKs that the node must not activate, and why. */
  readonly notApproved: readonly { readonly keyId: string; readonly reason: string }[];
  /** What is wrong with keys on this node. */
  readonly problems: readonly string[];
  readonly clockAheadMs: number | null;
  readonly clockErrorMs: number | null;
  /** Since when the node remembers under which key_ids it answered; null if its release does not report it. */
  readonly remembersSince: string | null;
  /** Why the node does not answer; null when it does. */
  readonly error: string | null;
}

/** Asks all nodes at the same time; never throws. @param refreshed whether they read their tokens first */
export async function readNodes(urls: readonly URL[], refreshed = false): Promise<NodeReport[]> {
  return Promise.all(
    urls.map(async (url) => {
      try {
        return reportOf(url.href, await (refreshed ? readNodeRefreshed(url) : readNode(url)));
      } catch (error) {
        return unanswered(url.href, KmsError.from(error).message);
      }
    }),
  );
}

/** Returns the report of a node that answered. */
export function reportOf(url: string, keyring: NodeKeyring): NodeReport {
  const { publishedKeyId, dueKeyId, heldBack, keys, clockAheadMs, clockErrorMs, remembersSince } = keyring;
  const inState = (state: NodeKey["state"]): string[] =>
    keys.filter((key) => key.state === state).map(({ keyId }) => keyId);
  const failures = keys.flatMap(({ keyId, failure }) => (failure === null ? [] : [`${keyId}: ${failure}`]));
  return {
    url,
    activeKeyId: publishedKeyId,
    publishedKeyId,
    dueKeyId,
    standby: inState("standby"),
    retired: inState("retired"),
    notApproved: keys.flatMap(({ keyId, notApproved: reason }) =>
      reason === null ? [] : [{ keyId, reason }],
    ),
    problems: [...(heldBack === null ? waits(keyring) : [heldBack]), ...failures],
    clockAheadMs,
    clockErrorMs,
    remembersSince,
    error: null,
  };
}

/** Explains why a node does not use the KEK that is due, if only a Status call is missing. */
function waits({ dueKeyId, publishedKeyId }: NodeKeyring): string[] {
  if (dueKeyId === null) return [];
  const until = publishedKeyId === null ? "nothing is published" : `${publishedKeyId} is in use`;
  return [
    `${dueKeyId} is due and waits for a Status call, until then ${until}; run 'kms-pkcs11 status --socket ...' on ` +
      "that node, or wait for its API server's poll",
  ];
}

/** Returns the report of a node that did not answer. */
export function unanswered(url: string, error: string): NodeReport {
  const nothing = {
    activeKeyId: null,
    publishedKeyId: null,
    dueKeyId: null,
    standby: [],
    retired: [],
    notApproved: [],
    problems: [],
  };
  return { url, ...nothing, clockAheadMs: null, clockErrorMs: null, remembersSince: null, error };
}

/** Returns a line for each difference, including clocks; nodes that do not answer are skipped. */
export function compareNodes(nodes: readonly NodeReport[], view: KeyringView | undefined): string[] {
  const answering = nodes.filter(({ error }) => error === null);
  return [...keyDifferences(answering, view), ...nodeClockDifferences(answering)];
}

/** Returns a line for each clock that is wrong. */
export function nodeClockDifferences(nodes: readonly NodeReport[]): string[] {
  return clockDifferences(
    nodes.flatMap(({ url: name, clockAheadMs: aheadMs, clockErrorMs: errorMs }) =>
      aheadMs === null || errorMs === null ? [] : [{ name, aheadMs, errorMs }],
    ),
  );
}

function keyDifferences(answering: readonly NodeReport[], view: KeyringView | undefined): string[] {
  const reference = view === undefined ? majority(answering) : keyringOf(view);
  return [
    ...answering.flatMap(({ url, problems }) => problems.map((problem) => `${url}: ${problem}`)),
    ...answering.flatMap((node) => differencesOf(withDue(node), reference)),
  ];
}

/** The node as it will be after the Status call that it waits for; the wait is reported separately. */
function withDue(node: NodeReport): NodeReport {
  const { dueKeyId, publishedKeyId, retired } = node;
  if (dueKeyId === null) return node;
  const former = publishedKeyId === null ? [] : [publishedKeyId];
  return { ...node, activeKeyId: dueKeyId, retired: [...former, ...retired] };
}

interface Reference {
  readonly who: string;
  readonly active: string | null;
  readonly standby: readonly string[];
  readonly retired: readonly string[];
}

function keyringOf({ active, keys }: KeyringView): Reference {
  const inState = (wanted: string): string[] =>
    keys.filter(({ state }) => state === wanted).map(({ record }) => record.keyId);
  return {
    who: "the token",
    active: active?.record.keyId ?? null,
    standby: inState("standby"),
    retired: inState("retired"),
  };
}

/** Returns the keyring that most nodes report; in a tie, the first. */
function majority(answering: readonly NodeReport[]): Reference {
  const nodes = answering.map(withDue);
  const [first] = nodes
    .map((node) => ({ node, votes: nodes.filter((other) => spelling(other) === spelling(node)).length }))
    .sort((one, other) => other.votes - one.votes);
  const { activeKeyId = null, standby = [], retired = [], url = "" } = first?.node ?? {};
  return { who: url, active: activeKeyId, standby, retired };
}

function spelling({ activeKeyId, standby, retired }: NodeReport): string {
  return JSON.stringify([activeKeyId, standby, retired]);
}

function differencesOf(node: NodeReport, reference: Reference): string[] {
  const { url, activeKeyId, standby, retired } = node;
  const active =
    activeKeyId === reference.active
      ? []
      : [`${url} has ${activeKeyId ?? "nothing"} active, ${reference.who} ${reference.active ?? "nothing"}`];
  return [
    ...active,
    ...lacking("standby", url, standby, reference.who, reference.standby),
    ...lacking("retired", url, retired, reference.who, reference.retired),
  ];
}

function lacking(
  state: string,
  one: string,
  its: readonly string[],
  other: string,
  others: readonly string[],
): string[] {
  return [
    ...others.filter((id) => !its.includes(id)).map((id) => `${one} has no ${state} ${id}, ${other} has`),
    ...its.filter((id) => !others.includes(id)).map((id) => `${one} has a ${state} ${id}, ${other} has not`),
  ];
}

/** Returns table rows: node, active, standby, due, retired, clock. */
export function nodeRows(nodes: readonly NodeReport[]): string[][] {
  return nodes.map(({ url, activeKeyId, dueKeyId, standby, retired, notApproved, clockAheadMs, error }) =>
    error === null
      ? [
          url,
          activeKeyId ?? "none",
          standby.map((keyId) => withApproval(keyId, notApproved)).join(" ") || "none",
          dueKeyId ?? "none",
          String(retired.length),
          clock(clockAheadMs ?? 0),
        ]
      : [url, error, "", "", "", ""],
  );
}

function withApproval(keyId: string, notApproved: NodeReport["notApproved"]): string {
  return notApproved.some((one) => one.keyId === keyId) ? `${keyId} (not approved)` : keyId;
}

function clock(aheadMs: number): string {
  return `${aheadMs < 0 ? "-" : "+"}${(Math.abs(aheadMs) / 1000).toFixed(1)} s`;
}

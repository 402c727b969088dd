// Whether usage reports show that nothing is under a KEK, nor will be. The argument: (1) the last API server has left
// the KEK some minutes after its successor's instant: a plugin's Status names another key_id from then on, or, if it
// cannot see the token, for the outage's grace at most; an API server asks every minute and encrypts for 3 more under
// what it heard last; and a superseded KEK never becomes active again. (A node whose token lacks the successor stays
// with the KEK. No look at etcd shows that: whoever asks here has to ask the nodes, too.) (2) So an object that was
// not under the KEK when a later census read it does not come under it, whichever revision it was read at. (3) The
// census saw every object, and could read each. What it cannot see is restored from an old backup, hence the reports'
// greatest age.
import { KmsError } from "../errors.js";
import { normalPrefix } from "./storage-key.js";
import type { UsageReport } from "./usage-report.js";

export interface DisuseQuestion {
  /** The key_ids by which stored objects may name the KEK. */
  readonly keyIds: readonly string[];
  /** When nobody encrypts under the KEK any more, in ms since the epoch. */
  readonly settledAt: number;
  readonly now: number;
  readonly maxAgeMs: number;
  /** kube-apiserver's `--etcd-prefix`: what a report must have covered. */
  readonly prefix: string;
  /** The clusters that encrypt under the KEK, in hexadecimal, as far as the caller names them: each needs a report. */
  readonly clusterIds: readonly string[];
}

export interface NamedReport {
  /** A file, or "etcd". */
  readonly name: string;
  readonly report: UsageReport;
}

/** A report may be from a machine whose clock is ahead by this much. */
const CLOCKS_DIFFER_MS = 60_000;

/**
 * Returns what they show, in one line. A snapshot's report proves nothing by itself, since nobody knows when the
 * snapshot was taken; beside one of an etcd it shows that this backup needs the KEK no more.
 * @throws KmsError TOKEN_REFUSED, with every objection
 */
export function requireUnused(reports: readonly NamedReport[], question: DisuseQuestion): string {
  const objections = reports.flatMap(({ name, report }) =>
    [...objectionsTo(report, question)].map((objection) => `${name}: ${objection}`),
  );
  const live = reports.filter(({ report }) => report.source.kind === "etcd");
  if (live.length === 0) {
    objections.push("no report is of an etcd: a snapshot does not show what the cluster holds now");
  }
  objections.push(...withoutReport(live, question.clusterIds));
  if (objections.length > 0) {
    throw new KmsError("TOKEN_REFUSED", `nothing was destroyed:\n${objections.join("\n")}`);
  }
  return `no object is under it: ${reports.map(({ name, report }) => `${name} (${summary(report)})`).join(", ")}`;
}

/**
 * Returns in one line what the reports show about a KEK that no node has used, and which therefore protects nothing.
 * @throws KmsError TOKEN_REFUSED when objects are under it
 */
export function requireNoneUnder(reports: readonly NamedReport[], keyIds: readonly string[]): string {
  const objections = reports.flatMap(({ name, report }) =>
    [...objectionsToUse(report, keyIds)].map((objection) => `${name}: ${objection}`),
  );
  if (objections.length > 0) {
    throw new KmsError("TOKEN_REFUSED", `nothing was destroyed:\n${objections.join("\n")}`);
  }
  return reports.length === 0 ? "no etcd was searched" : "no object is under it";
}

function* objectionsToUse(report: UsageReport, keyIds: readonly string[]): Generator<string> {
  const used = report.usages.filter(({ keyId }) => keyId !== null && keyIds.includes(keyId));
  for (const { objects, resources } of used) {
    yield `${objects} objects are under it (${Object.keys(resources).join(", ")}); rewrite them first`;
  }
}

function* objectionsTo(report: UsageReport, question: DisuseQuestion): Generator<string> {
  yield* objectionsToUse(report, question.keyIds);
  const unreadable = report.usages.find(({ protection }) => protection === "unreadable");
  if (unreadable !== undefined) {
    yield `${unreadable.objects} objects cannot be read, and may be under it; repair or delete them first`;
  }
  const wanted = normalPrefix(question.prefix);
  if (report.prefix !== wanted) {
    yield `it covers ${report.prefix} and not ${wanted}; if that is kube-apiserver's, give it as --etcd-prefix`;
  }
  if (report.source.kind === "snapshot") return;
  const { clusterId } = report.source;
  if (question.clusterIds.length > 0 && !question.clusterIds.includes(clusterId)) {
    yield `it covers cluster ${clusterId}, not ${question.clusterIds.join(" or ")}`;
  }
  yield* objectionsToTime(Date.parse(report.startedAt), question);
}

/** Clusters that share a token share the KEK: a report of one says nothing about the others. */
function withoutReport(live: readonly NamedReport[], clusterIds: readonly string[]): string[] {
  const reported = live.flatMap(({ report: { source } }) => (source.kind === "etcd" ? source.clusterId : []));
  return clusterIds
    .filter((clusterId) => !reported.includes(clusterId))
    .map((clusterId) => `no report covers cluster ${clusterId}; take one there`);
}

function* objectionsToTime(
  startedAt: number,
  { now, maxAgeMs, settledAt }: DisuseQuestion,
): Generator<string> {
  const age = now - startedAt;
  if (age > maxAgeMs) {
    yield `it is ${minutes(age)} old, and ${minutes(maxAgeMs)} is the most; take a new one, or give --max-report-age`;
  }
  if (age < -CLOCKS_DIFFER_MS) yield "it is from the future; look at this machine's clock";
  if (startedAt < settledAt) {
    const from = new Date(settledAt).toISOString();
    yield `it began before every API server had left the KEK; take a new one after ${from}`;
  }
}

function minutes(ms: number): string {
  return `${Math.ceil(ms / 60_000)} min`;
}

function summary({ source, objects, startedAt }: UsageReport): string {
  const what = source.kind === "etcd" ? `cluster ${source.clusterId}` : `snapshot sha256:${source.sha256}`;
  return `${what}, ${objects} objects, ${startedAt}`;
}

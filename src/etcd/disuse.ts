// Decides from usage reports whether no object is encrypted under a KEK and none will be. The argument:
// (1) Some minutes after the successor's activation instant, no API server encrypts under the KEK any more. From that
//     instant a plugin publishes another key_id (during an outage, after the grace period at the latest); an API server
//     asks for the Status every minute, and encrypts for up to 3 minutes under the last key_id that it received; and a
//     replaced KEK never becomes active again. A node whose token lacks the successor keeps using the KEK. etcd cannot
//     show that, so the caller must ask the nodes too.
// (2) Therefore an object that a later census did not find under the KEK will not be encrypted under it, whatever
//     revision the census read.
// (3) The census read every object. It cannot see objects that are later restored from an old backup; the maximum age
//     of reports limits that risk.
import { KmsError } from "../errors.js";
import { mayHaveHadKeyId } from "../hsm/key-id.js";
import { normalPrefix } from "./storage-key.js";
import type { UsageReport } from "./usage-report.js";

export interface DisuseQuestion {
  /** All key_ids of the KEK. Stored objects may contain an earlier one. */
  readonly keyIds: readonly string[];
  /** Key_ids of other KEKs, which it cannot have had earlier. */
  readonly others: readonly string[];
  /** From when no API server encrypts under the KEK any more, in ms since the epoch. */
  readonly settledAt: number;
  readonly now: number;
  readonly maxAgeMs: number;
  /** kube-apiserver's `--etcd-prefix`, which a report must cover. */
  readonly prefix: string;
  /** The clusters that encrypt under the KEK, in hexadecimal, if the caller names them: each needs a report. */
  readonly clusterIds: readonly string[];
}

export interface NamedReport {
  /** A file, or LIVE_ETCD for a census that the command has just taken. */
  readonly name: string;
  readonly report: UsageReport;
}

/** The name of a report that the command has taken itself. If it proves nothing, repeating the command takes another. */
export const LIVE_ETCD = "etcd";

/** The clock of the machine that wrote a report may be ahead by this much. */
const CLOCKS_DIFFER_MS = 60_000;

/**
 * Returns the evidence in one line. A report of a snapshot proves nothing by itself, since the snapshot's time is
 * unknown; together with a report of an etcd it shows that this backup does not need the KEK.
 * @throws KmsError TOKEN_REFUSED with every objection
 */
export function requireUnused(reports: readonly NamedReport[], question: DisuseQuestion): string {
  const objections = reports.flatMap(({ name, report }) =>
    [...objectionsTo(report, question, name === LIVE_ETCD)].map((objection) => `${name}: ${objection}`),
  );
  const live = reports.filter(({ report }) => report.source.kind === "etcd");
  if (live.length === 0) {
    objections.push(
      "no report is of an etcd: a snapshot does not show what etcd holds now; take one of etcd",
    );
  }
  objections.push(...withoutReport(live, question.clusterIds));
  if (objections.length > 0) {
    throw new KmsError("TOKEN_REFUSED", `nothing was destroyed:\n${objections.join("\n")}`);
  }
  return `no object is under it: ${reports.map(({ name, report }) => `${name} (${summary(report)})`).join(", ")}`;
}

/**
 * Returns in one line what the reports show about a KEK that no node has used and that should therefore protect
 * nothing.
 * @throws KmsError TOKEN_REFUSED if objects are under it
 */
export function requireNoneUnder(
  reports: readonly NamedReport[],
  kek: Pick<DisuseQuestion, "keyIds" | "others">,
): string {
  const objections = reports.flatMap(({ name, report }) =>
    [...objectionsToUse(report, kek)].map((objection) => `${name}: ${objection}`),
  );
  if (objections.length > 0) {
    throw new KmsError("TOKEN_REFUSED", `nothing was destroyed:\n${objections.join("\n")}`);
  }
  return reports.length === 0 ? "no etcd was searched" : "no object is under it";
}

function* objectionsToUse(
  report: UsageReport,
  { keyIds, others }: Pick<DisuseQuestion, "keyIds" | "others">,
): Generator<string> {
  for (const { keyId, objects, resources } of report.usages) {
    if (keyId === null || !mayHaveHadKeyId(keyIds, keyId, others)) continue;
    const under = keyIds.includes(keyId) ? "it" : `${keyId}, which may be an earlier key_id of the same KEK`;
    yield `${objects} objects are under ${under} (${Object.keys(resources).join(", ")}); rewrite them first`;
  }
}

function* objectionsTo(report: UsageReport, question: DisuseQuestion, isLive: boolean): Generator<string> {
  yield* objectionsToUse(report, question);
  const unreadable = report.usages.find(({ protection }) => protection === "unreadable");
  if (unreadable !== undefined) {
    yield `${unreadable.objects} objects cannot be read, and may be under it; repair or delete them first`;
  }
  const required = normalPrefix(question.prefix);
  if (report.prefix !== required) {
    yield `it covers ${report.prefix} and not ${required}; if kube-apiserver uses ${report.prefix}, give it as --etcd-prefix`;
  }
  if (report.source.kind === "snapshot") return;
  const { clusterId } = report.source;
  if (question.clusterIds.length > 0 && !question.clusterIds.includes(clusterId)) {
    yield `it covers cluster ${clusterId}, not ${question.clusterIds.join(" or ")}`;
  }
  yield* objectionsToTime(Date.parse(report.startedAt), question, isLive);
}

/** Returns the clusters without a report: clusters that share a token share the KEK, so each needs its own report. */
function withoutReport(live: readonly NamedReport[], clusterIds: readonly string[]): string[] {
  const reported = live.flatMap(({ report: { source } }) => (source.kind === "etcd" ? source.clusterId : []));
  return clusterIds
    .filter((clusterId) => !reported.includes(clusterId))
    .map((clusterId) => `no report covers cluster ${clusterId}; take one there`);
}

function* objectionsToTime(
  startedAt: number,
  { now, maxAgeMs, settledAt }: DisuseQuestion,
  isLive: boolean,
): Generator<string> {
  const age = now - startedAt;
  if (age > maxAgeMs) {
    yield `it is ${minutes(age)} old, and at most ${minutes(maxAgeMs)} are allowed; take another, or give --max-report-age`;
  }
  if (age < -CLOCKS_DIFFER_MS) yield "its date is in the future; check this machine's clock";
  if (startedAt < settledAt) {
    const from = new Date(settledAt).toISOString();
    yield isLive
      ? `until ${from}, API servers may still encrypt under the KEK; repeat the command after that`
      : `it was begun before every API server had left the KEK; take another after ${from}`;
  }
}

function minutes(ms: number): string {
  return `${Math.ceil(ms / 60_000)} min`;
}

function summary({ source, objects, startedAt }: UsageReport): string {
  const what = source.kind === "etcd" ? `cluster ${source.clusterId}` : `snapshot sha256:${source.sha256}`;
  return `${what}, ${objects} objects, ${startedAt}`;
}

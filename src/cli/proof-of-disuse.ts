// Whether a KEK may be destroyed: the one place that decides that nothing needs it any more. Every kind of proof
// adds its option and its answer here; without one the caller has to write the key_id out.
import type { Command } from "commander";
import { parseDuration } from "../config/duration.js";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import { requireUnused, type NamedReport } from "../etcd/disuse.js";
import { readUsageReport } from "../etcd/usage-report.js";
import type { Schedule } from "../provider/generations.js";
import { isKeyId } from "../hsm/key-id.js";
import { DEFAULT_PREFIX, withLiveEtcd } from "./etcd-options.js";
import { parseKeyReference } from "./key-reference.js";
import type { ViewedKey } from "./keyring-view.js";
import { PROCESS_TERMINAL } from "./output.js";
import { takeCensus } from "./usage-census.js";

export interface DisuseOptions {
  readonly iUnderstandDataIsLost?: string;
  readonly everyNodeHasLeft?: string;
  readonly usageReport: readonly string[];
  readonly maxReportAge: string;
  readonly clusterId?: string;
  readonly etcdPrefix: string;
  readonly endpoints?: string;
  readonly cacert?: string;
  readonly cert?: string;
  readonly etcdKey?: string;
}

/** From the end of an outage's grace until the last API server has left a KEK: a minute to ask, 3 to go on, 1 to spare. */
const API_SERVER_MS = 5 * 60_000;

export function addDisuseOptions(command: Command): Command {
  return command
    .option(
      "--usage-report <file>",
      "a proof: what 'etcd usage --report' wrote; again for every further etcd",
      (file: string, before: readonly string[]) => [...before, file],
      [],
    )
    .option("--max-report-age <duration>", "how old a report may be", "1h")
    .option("--cluster-id <hex>", "of what cluster the reports must be, as 'etcd usage' shows it")
    .option("--endpoints <list>", "a proof: look through this etcd now; as of 'etcd usage'")
    .option("--cacert <file>", "CA of etcd's certificate, PEM")
    .option("--cert <file>", "client certificate for etcd, PEM")
    .option("--etcd-key <file>", "private key of the client certificate, PEM")
    .option(
      "--etcd-prefix <prefix>",
      "what a proof must cover: kube-apiserver's --etcd-prefix",
      DEFAULT_PREFIX,
    )
    .option(
      "--every-node-has-left <key_id>",
      "the key_id once more, instead of --nodes beside a proof from etcd: no plugin encrypts under it any more",
    )
    .option(
      "--i-understand-data-is-lost <key_id>",
      "the whole key_id once more, instead of a proof: whatever it still protects is lost",
    );
}

/** Checks the key_ids of the options before anything is asked. @throws KmsError CONFIG_INVALID */
export function requireKeyIds({ everyNodeHasLeft, iUnderstandDataIsLost }: DisuseOptions): void {
  if (everyNodeHasLeft !== undefined) parseKeyReference("--every-node-has-left", everyNodeHasLeft);
  if (iUnderstandDataIsLost === undefined || isKeyId(iUnderstandDataIsLost)) return;
  throw new KmsError("CONFIG_INVALID", "--i-understand-data-is-lost: write the whole key_id out");
}

export interface Circumstances {
  /** Of all tokens: it says when the KEK was superseded. */
  readonly schedule: Schedule;
  /** What shows that no node encrypts under the KEK any more; undefined when no node was asked. */
  readonly left: string | undefined;
}

/**
 * Returns what shows that the KEK is not needed, for the log.
 * @throws KmsError TOKEN_REFUSED when nothing shows it
 */
export async function requireDisuse(
  key: ViewedKey,
  { schedule, left }: Circumstances,
  settings: Settings,
  options: DisuseOptions,
): Promise<string> {
  const { keyId, aliases } = key.record;
  if (isStated("--i-understand-data-is-lost", options.iUnderstandDataIsLost, keyId))
    return "the caller's word that the data under it is lost";
  const isLeftByWord = isStated("--every-node-has-left", options.everyNodeHasLeft, keyId);
  if (options.usageReport.length === 0 && options.endpoints === undefined) {
    throw new KmsError(
      "TOKEN_REFUSED",
      `nothing shows that no object is under ${keyId} any more; give --usage-report or --endpoints, or, if that is known, --i-understand-data-is-lost ${keyId}`,
    );
  }
  const maxAgeMs = parseDuration(options.maxReportAge);
  if (maxAgeMs === undefined)
    throw new KmsError("CONFIG_INVALID", "--max-report-age: give a duration such as 1h");
  const settledAt = supersededAt(key, schedule) + settings.health.outageGracePeriodMs + API_SERVER_MS;
  const departure = left ?? (isLeftByWord ? "left by every node, by the caller's word" : undefined);
  if (departure === undefined) {
    throw new KmsError(
      "TOKEN_REFUSED",
      `etcd does not show whether a node still encrypts under ${keyId}; name every node by --nodes, or, if that is known, give --every-node-has-left ${keyId}`,
    );
  }
  const unused = requireUnused(await reportsOf(options), {
    keyIds: [keyId, ...aliases],
    settledAt,
    now: Date.now(),
    maxAgeMs,
    prefix: options.etcdPrefix,
    clusterId: options.clusterId,
  });
  return `${unused}; ${departure}`;
}

/** Whether the caller has written the key_id out. @throws KmsError TOKEN_REFUSED when it is another one's */
function isStated(option: string, written: string | undefined, keyId: string): boolean {
  if (written === undefined || written === keyId) return written === keyId;
  throw new KmsError("TOKEN_REFUSED", `${option} names another key_id; nothing was destroyed`);
}

/** The instant of the first generation after the KEK. @throws KmsError TOKEN_REFUSED when none tells */
function supersededAt({ state, activation = -Infinity }: ViewedKey, { generations }: Schedule): number {
  if (state === "standby") {
    throw new KmsError(
      "TOKEN_REFUSED",
      "a look at etcd does not show that no node is about to use a standby KEK; name every node by --nodes",
    );
  }
  const now = Date.now();
  const later = generations
    .map((generation) => generation.activation)
    .filter((instant) => instant > activation && instant <= now && Number.isFinite(instant));
  // A refused key has no place in the schedule: only what is active now is known to have come after it.
  if (later.length > 0) return state === "refused" ? Math.max(...later) : Math.min(...later);
  throw new KmsError(
    "TOKEN_REFUSED",
    "no label tells since when another KEK is active, so that no look at etcd shows that none comes under this one",
  );
}

async function reportsOf(options: DisuseOptions): Promise<NamedReport[]> {
  const { usageReport, endpoints, cacert, cert, etcdKey, etcdPrefix } = options;
  const reports = usageReport.map((file) => ({ name: file, report: readUsageReport(file) }));
  if (endpoints === undefined) return reports;
  const access = {
    endpoints,
    ...(cacert !== undefined && { cacert }),
    ...(cert !== undefined && { cert }),
    ...(etcdKey !== undefined && { key: etcdKey }),
  };
  const report = await withLiveEtcd(access, (source) => takeCensus(source, etcdPrefix, PROCESS_TERMINAL));
  return [...reports, { name: "etcd", report }];
}

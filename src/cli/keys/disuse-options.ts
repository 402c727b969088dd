// The options of `keys destroy` that name a proof that a KEK is not needed, and how that proof is collected.
// require-unneeded.ts decides what it proves.
import type { Command } from "commander";
import { KmsError } from "../../errors.js";
import { LIVE_ETCD, type NamedReport } from "../../etcd/disuse.js";
import { readUsageReport } from "../../etcd/usage-report.js";
import { isKeyId } from "../../hsm/key-id.js";
import { durationOf } from "../duration-option.js";
import { addOptionalEtcdOptions, optionalEtcd, type OptionalEtcdOptions } from "../etcd/optional-etcd.js";
import { DEFAULT_PREFIX } from "../etcd/options.js";
import { collect } from "../collect-option.js";
import { parseKeyReference } from "../../admin/key-reference.js";
import { withLiveEtcd } from "../../admin/etcd-source.js";
import type { Operator } from "../../admin/operator.js";
import type { DisuseProof } from "../../admin/require-unneeded.js";
import { reportUsage } from "../../admin/usage-census.js";

export interface DisuseOptions extends OptionalEtcdOptions {
  readonly iUnderstandDataIsLost?: string;
  readonly everyNodeHasLeft?: string;
  readonly usageReport: readonly string[];
  readonly maxReportAge: string;
  readonly clusterId: readonly string[];
  readonly etcdPrefix: string;
}

/** The default of --max-report-age. */
export const MAX_REPORT_AGE = "1h";

const HEXADECIMAL = /^(0x)?0*([0-9a-f]{1,16})$/;

/** Adds the options that name a proof that a KEK is not needed. */
export function addDisuseOptions(command: Command): Command {
  command
    .option(
      "--usage-report <file>",
      "proof: a report of 'etcd usage --report'; repeat the option for each etcd",
      collect,
      [],
    )
    .option("--max-report-age <duration>", "maximum age of a report", MAX_REPORT_AGE)
    .option(
      "--cluster-id <hex>",
      "a cluster that uses this token, as 'etcd usage' shows it; requires a report of it; repeat for each cluster",
      collect,
      [],
    );
  return addOptionalEtcdOptions(command, "proof: search this etcd now")
    .option(
      "--etcd-prefix <prefix>",
      "kube-apiserver's --etcd-prefix, which a proof must cover",
      DEFAULT_PREFIX,
    )
    .option(
      "--every-node-has-left <key_id>",
      "repeat the key_id to state, instead of --nodes, that no plugin encrypts under it any more",
    )
    .option(
      "--i-understand-data-is-lost <key_id>",
      "repeat the whole key_id instead of a proof: all data that it still protects is lost",
    );
}

/** Returns the proof that the options name; nothing is read yet. @throws KmsError CONFIG_INVALID */
export function disuseProofOf(options: DisuseOptions, operator: Operator): DisuseProof {
  const maxAgeMs = durationOf("--max-report-age", options.maxReportAge, "1h");
  const { everyNodeHasLeft, iUnderstandDataIsLost } = options;
  if (everyNodeHasLeft !== undefined) parseKeyReference("--every-node-has-left", everyNodeHasLeft);
  if (iUnderstandDataIsLost !== undefined && !isKeyId(iUnderstandDataIsLost)) {
    throw new KmsError("CONFIG_INVALID", "--i-understand-data-is-lost: write the whole key_id out");
  }
  return {
    lost: iUnderstandDataIsLost,
    left: everyNodeHasLeft,
    reports: () => collectReports(options, operator),
    maxAgeMs,
    prefix: options.etcdPrefix,
    clusterIds: options.clusterId.map(parseClusterId),
  };
}

/** Returns the digests of reports, which an approval may name. */
export async function digestsOf(files: readonly string[]): Promise<string[]> {
  const { digestOfFile } = await import("../../approvals/document.js");
  return files.map((file) => digestOfFile(file));
}

function parseClusterId(text: string): string {
  const [, , digits] = HEXADECIMAL.exec(text.toLowerCase()) ?? [];
  if (digits !== undefined) return digits;
  throw new KmsError(
    "CONFIG_INVALID",
    `--cluster-id: "${text}" is not a cluster id; give what 'etcd usage' shows, such as cdf818194e3a8c32`,
  );
}

async function collectReports(options: DisuseOptions, operator: Operator): Promise<NamedReport[]> {
  const reports = options.usageReport.map((file) => ({ name: file, report: readUsageReport(file) }));
  const access = optionalEtcd(options);
  if (access === undefined) return reports;
  try {
    const report = await withLiveEtcd(access, (source) => reportUsage(source, options.etcdPrefix, operator));
    return [...reports, { name: LIVE_ETCD, report }];
  } catch (error) {
    const failure = KmsError.from(error);
    if (options.endpoints !== undefined || failure.code !== "PEER_UNREACHABLE") throw failure;
    operator.notify(`warning: the etcd of ETCDCTL_ENDPOINTS was not searched: ${failure.message}`);
    return reports;
  }
}

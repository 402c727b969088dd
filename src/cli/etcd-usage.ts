// `kms-pkcs11 etcd usage`: which provider and which key_id protect how many objects, live or in a snapshot. Needs
// neither the HSM nor any secret.
import type { Command } from "commander";
import { writeUsageReport, type UsageReport } from "../etcd/usage-report.js";
import { addEtcdOptions, withEtcd, type EtcdOptions } from "./etcd-options.js";
import { EXIT_NO } from "./exit-code.js";
import { formatJson, formatTable, oneLine, type Cell, type Terminal } from "./output.js";
import { takeCensus } from "./usage-census.js";

interface UsageOptions extends EtcdOptions {
  readonly encryptionConfig?: string;
  readonly failIfUsed: readonly string[];
  readonly report?: string;
}

export function addEtcdUsageCommand(etcd: Command, terminal: Terminal): void {
  addEtcdOptions(etcd.command("usage"))
    .description("which provider and key_id protect how many objects; needs no HSM and no secret")
    .option(
      "--encryption-config <file>",
      "kube-apiserver's EncryptionConfiguration: also list what it should encrypt and is in clear",
    )
    .option(
      "--fail-if-used <key_id>",
      "exit 1 when an object is under it, or cannot be read; may be given again",
      (keyId: string, before: readonly string[]) => [...before, keyId],
      [],
    )
    .option("--report <file>", "write a report that 'keys destroy --usage-report' takes for a proof")
    .addHelpText(
      "after",
      `
Example:
  kms-pkcs11 etcd usage --endpoints https://127.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt \\
    --cert /etc/kubernetes/pki/etcd/healthcheck-client.crt --key /etc/kubernetes/pki/etcd/healthcheck-client.key
  kms-pkcs11 etcd usage --snapshot backup.db --fail-if-used 0193...c1`,
    )
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<UsageOptions>();
      const report = await withEtcd(options, (source) =>
        takeCensus(source, options.prefix, terminal, options.encryptionConfig),
      );
      if (options.report !== undefined) writeUsageReport(options.report, report);
      const { failIfUsed } = options;
      const used = failIfUsed.filter((keyId) => report.usages.some((usage) => usage.keyId === keyId));
      if (options.output === "json") terminal.out(formatJson({ ...report, used }));
      else terminal.out(describe(report, failIfUsed, used));
      if (used.length > 0 || (failIfUsed.length > 0 && hasUnreadable(report))) process.exitCode = EXIT_NO;
    });
}

function hasUnreadable(report: UsageReport): boolean {
  return report.usages.some(({ protection }) => protection === "unreadable");
}

const MAX_LISTED = 6;

type Usage = UsageReport["usages"][number];

function describe(report: UsageReport, asked: readonly string[], used: readonly string[]): string {
  const { first, last } = report.revisions;
  const where =
    report.source.kind === "etcd"
      ? `cluster ${report.source.clusterId}`
      : `snapshot sha256:${report.source.sha256}`;
  const revisions =
    first === last ? `revision ${String(first)}` : `revisions ${String(first)} to ${String(last)}`;
  const table = formatTable(
    ["PROVIDER", "KEY_ID", "OBJECTS", "SEEDS", "RESOURCES", "NAMESPACES", "REVISIONS"],
    report.usages.map(row),
  );
  return [
    table,
    "",
    `${String(report.objects)} objects under ${report.prefix} of ${where}, ${revisions}`,
    ...Object.entries(report.plaintextToEncrypt ?? {}).map(
      ([resource, objects]) => `in clear, but to be encrypted: ${String(objects)} of ${resource}`,
    ),
    ...report.unreadable.map(({ key, reason }) => oneLine(`${key}: ${reason}`)),
    ...asked.map((keyId) => verdict(keyId, used.includes(keyId), hasUnreadable(report))),
  ].join("\n");
}

function verdict(keyId: string, isUsed: boolean, isDoubtful: boolean): string {
  if (isUsed) return `${keyId} is used`;
  return isDoubtful
    ? `${keyId} is not seen, but some objects cannot be read: nobody can tell`
    : `${keyId} is not used`;
}

function row(usage: Usage): Cell[] {
  const { protection, provider, keyId, objects, seeds, resources, namespaces } = usage;
  return [
    provider === "" ? protection : provider,
    keyId ?? "",
    String(objects),
    seeds === null ? "" : distinct(seeds),
    shortList(resources),
    distinct(namespaces),
    `${String(usage.oldestRevision)} to ${String(usage.newestRevision)}`,
  ];
}

/** The most frequent ones; the JSON output has all. */
function shortList(resources: Usage["resources"]): string[] {
  const sorted = Object.entries(resources).sort(([, a], [, b]) => b - a);
  const lines = sorted.slice(0, MAX_LISTED).map(([resource, number]) => `${resource}: ${String(number)}`);
  if (sorted.length > MAX_LISTED) lines.push(`and ${String(sorted.length - MAX_LISTED)} more`);
  return lines;
}

function distinct({ count, isAtLeast }: Usage["namespaces"]): string {
  return isAtLeast ? `over ${String(count)}` : String(count);
}

// `kms-pkcs11 etcd usage`: counts the objects that each provider and each key_id protects, in etcd or in a snapshot.
// Needs neither the HSM nor a secret.
import type { Command } from "commander";
import { mayHaveHadKeyId } from "../../hsm/key-id.js";
import { writeUsageReport, type UsageReport } from "../../etcd/usage-report.js";
import { addEtcdOptions, withEtcd, type EtcdOptions } from "./options.js";
import { addKekOptions, settingsOfKek, type KekOptions } from "./kek-options.js";
import { EXIT_NO } from "../exit-code.js";
import { lookUpKeks, type LookupSources, type NamedKek } from "../../admin/key-lookup.js";
import { parseKeyReference, type KeyReference } from "../../admin/key-reference.js";
import { namedNodes, nodesOf, NODES_FLAGS, type NodesOptions } from "../nodes-option.js";
import { collect } from "../collect-option.js";
import { operatorAt } from "../operator.js";
import { formatJson, type Terminal } from "../output.js";
import { formatTable, type Cell } from "../table.js";
import { reportUsage } from "../../admin/usage-census.js";
import { oneLine } from "../../untrusted-text.js";
import type { EtcdUsageOutput } from "../output-schema/etcd.js";

interface UsageOptions extends EtcdOptions, KekOptions, NodesOptions {
  readonly encryptionConfig?: string;
  readonly failIfUsed: readonly string[];
  readonly report?: string;
}

const FAIL_IF_USED = "--fail-if-used";

/** Adds `etcd usage`. */
export function addEtcdUsageCommand(etcd: Command, terminal: Terminal): void {
  addKekOptions(addEtcdOptions(etcd.command("usage")))
    .description("count the objects that each provider and key_id protects; needs no HSM and no secret")
    .option(
      "--encryption-config <file>",
      "kube-apiserver's EncryptionConfiguration: also list objects in clear that it should encrypt",
    )
    .option(
      "--fail-if-used <key_id>",
      "exit 1 if an object is or may be under this key_id; may be repeated; anything but a whole key_id requires --config, --kek or --nodes",
      collect,
      [],
    )
    .option(
      NODES_FLAGS,
      "plugins whose /keys resolve the KEK that --fail-if-used names (default: the setting nodes of --config)",
    )
    .option("--report <file>", "write a report, as evidence for 'keys destroy --usage-report'")
    .addHelpText(
      "after",
      `
Example:
  kms-pkcs11 etcd usage --endpoints https://127.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt \\
    --cert /etc/kubernetes/pki/etcd/healthcheck-client.crt --key /etc/kubernetes/pki/etcd/healthcheck-client.key
  kms-pkcs11 etcd usage --snapshot backup.db --fail-if-used 0193...c1`,
    )
    .action(async (_local, command: Command) => {
      await usage(command.optsWithGlobals<UsageOptions>(), terminal);
    });
}

async function usage(options: UsageOptions, terminal: Terminal): Promise<void> {
  const references = options.failIfUsed.map((text) => parseKeyReference(FAIL_IF_USED, text));
  const operator = operatorAt(terminal);
  const asked = await lookUpKeks(FAIL_IF_USED, references, sourcesOf(options, references), operator);
  const report = await withEtcd(options, operator, (source) =>
    reportUsage(source, options.prefix, operator, options.encryptionConfig),
  );
  if (options.report !== undefined) writeUsageReport(options.report, report);
  const answers = asked.map((kek) => answerFor(kek, report));
  const used = answers.filter(({ isUsed }) => isUsed).map(({ keyId }) => keyId);
  if (options.output === "json") terminal.out(formatJson({ ...report, used } satisfies EtcdUsageOutput));
  else terminal.out(describe(report, answers));
  if (answers.some(({ isUsed, uncertainty }) => isUsed || uncertainty !== undefined)) {
    process.exitCode = EXIT_NO;
  }
}

/** Returns where to look the KEKs up. @throws KmsError CONFIG_INVALID */
function sourcesOf(options: UsageOptions, references: readonly KeyReference[]): LookupSources {
  const { config, kek } = options;
  // Without a KEK to look up, the configuration is not needed.
  if (references.length === 0) return { settings: undefined, nodes: [] };
  const settings = config === undefined && kek === undefined ? undefined : settingsOfKek(options);
  return {
    settings,
    nodes: settings === undefined ? (namedNodes(options) ?? []) : nodesOf(options, settings),
  };
}

interface Answer {
  readonly keyId: string;
  readonly isUsed: boolean;
  /** Why the answer is uncertain; undefined if it is certain. */
  readonly uncertainty: string | undefined;
}

function answerFor({ keyIds }: NamedKek, report: UsageReport): Answer {
  const stored = report.usages.flatMap((usage) => usage.keyId ?? []);
  const similar = stored.find((other) => !keyIds.includes(other) && mayHaveHadKeyId(keyIds, other));
  return {
    keyId: keyIds[0],
    isUsed: stored.some((keyId) => keyIds.includes(keyId)),
    uncertainty: hasUnreadable(report)
      ? "some objects cannot be read, so the answer is uncertain"
      : similar && `objects are under ${similar}, which may be an earlier key_id of the same KEK`,
  };
}

function hasUnreadable(report: UsageReport): boolean {
  return report.usages.some(({ protection }) => protection === "unreadable");
}

const MAX_LISTED = 6;

type Usage = UsageReport["usages"][number];

function describe(report: UsageReport, answers: readonly Answer[]): string {
  const { first, last } = report.revisions;
  const source =
    report.source.kind === "etcd"
      ? `cluster ${report.source.clusterId}`
      : `snapshot sha256:${report.source.sha256}`;
  const revisions = first === last ? `revision ${first}` : `revisions ${first} to ${last}`;
  const table = formatTable(
    ["PROVIDER", "KEY_ID", "OBJECTS", "SEEDS", "RESOURCES", "NAMESPACES", "REVISIONS"],
    report.usages.map(row),
  );
  return [
    table,
    "",
    `${report.objects} objects under ${report.prefix} of ${source}, ${revisions}`,
    ...Object.entries(report.plaintextToEncrypt ?? {}).map(
      ([resource, objects]) => `in clear, but should be encrypted: ${objects} of ${resource}`,
    ),
    ...report.unreadable.map(({ key, reason }) => oneLine(`${key}: ${reason}`)),
    ...answers.map(verdict),
  ].join("\n");
}

function verdict({ keyId, isUsed, uncertainty }: Answer): string {
  if (isUsed) return oneLine(`${keyId} is used`);
  return oneLine(
    uncertainty === undefined ? `${keyId} is not used` : `${keyId} was not found, but ${uncertainty}`,
  );
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
    `${usage.oldestRevision} to ${usage.newestRevision}`,
  ];
}

/** Returns the most frequent resources; the JSON output has all. */
function shortList(resources: Usage["resources"]): string[] {
  const sorted = Object.entries(resources).sort(([, a], [, b]) => b - a);
  const lines = sorted.slice(0, MAX_LISTED).map(([resource, number]) => `${resource}: ${number}`);
  if (sorted.length > MAX_LISTED) lines.push(`and ${sorted.length - MAX_LISTED} more`);
  return lines;
}

function distinct({ count, isAtLeast }: Usage["namespaces"]): string {
  return isAtLeast ? `over ${count}` : String(count);
}

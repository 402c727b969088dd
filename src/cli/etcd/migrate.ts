// `kms-pkcs11 etcd migrate`: makes kube-apiserver rewrite every object that is not under the active KEK, and ends with
// a survey of etcd as evidence that none is left.
import { Option, type Command } from "commander";
import { KmsError } from "../../errors.js";
import { KubeApi } from "../../etcd/kube-api.js";
import { durationOf } from "../duration-option.js";
import {
  addAimOptions,
  addEndpointOptions,
  DEFAULT_PREFIX,
  etcdAccess,
  type EndpointOptions,
} from "./options.js";
import { EXIT_INTERRUPTED, EXIT_NO } from "../exit-code.js";
import { withLiveEtcd } from "../../admin/etcd-source.js";
import { findReferenced, parseKeyReference } from "../../admin/key-reference.js";
import { KmsClient } from "../../kms-client/kms-client.js";
import { MigrationProgress } from "./migration-progress.js";
import { describeMigration, migrationJson } from "./migration-report.js";
import { leftBy, migrateStored, type MigrationResult } from "../../admin/migrate-stored.js";
import { printResult, type Change } from "../next-step.js";
import { operatorAt } from "../operator.js";
import type { OutputFormat, Terminal } from "../output.js";
import { addPluginSocketOptions, pluginSocket } from "../plugin-socket.js";

export interface LimitOptions {
  readonly rate: string;
  readonly concurrency: string;
  readonly wait: string;
}

interface MigrateOptions extends EndpointOptions, LimitOptions {
  readonly prefix: string;
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly socket?: string;
  readonly config?: string;
  readonly cluster?: string;
  readonly keyId?: string;
  readonly encryptionConfig?: string;
  readonly resources?: string;
  readonly with: "patches" | "svm";
  readonly dryRun?: true;
  readonly skipClusterCheck?: true;
  readonly output: OutputFormat;
}

const HELP = `
After an interruption, run it again: it continues with the remaining objects.

Example:
  kms-pkcs11 etcd migrate --endpoints https://127.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt \\
    --cert /etc/kubernetes/pki/apiserver-etcd-client.crt --key /etc/kubernetes/pki/apiserver-etcd-client.key \\
    --kubeconfig /etc/kubernetes/admin.conf --encryption-config /etc/kubernetes/encryption/encryption-configuration.yaml`;

/** Adds `etcd migrate`. */
export function addEtcdMigrateCommand(etcd: Command, terminal: Terminal): void {
  const command = addPluginSocketOptions(addEndpointOptions(etcd.command("migrate")))
    .description(
      "make kube-apiserver rewrite every object that is not under the active KEK; exit 0 if none is left, 1 if some are",
    )
    .option("--prefix <prefix>", "kube-apiserver's --etcd-prefix", DEFAULT_PREFIX)
    .option("--kubeconfig <file>", "kubeconfig of the cluster; found as by kubectl if omitted")
    .option("--context <name>", "context of the kubeconfig")
    .option("--key-id <key_id>", "the active key_id; the plugin is not asked for it if it is given in full");
  addLimitOptions(addAimOptions(command))
    .addOption(
      new Option("--with <means>", "patches, or Kubernetes' StorageVersionMigration if the cluster serves it")
        .choices(["patches", "svm"])
        .default("patches"),
    )
    .option("--dry-run", "report what would be rewritten, and rewrite nothing")
    .option(
      "--skip-cluster-check",
      "continue although it is unknown whether the API server uses this etcd; refused if it is known not to",
    )
    .addHelpText("after", HELP)
    .action(async (_local, command: Command) => {
      await run(command.optsWithGlobals<MigrateOptions>(), terminal);
    });
}

/** Adds the limits of a migration. */
export function addLimitOptions(command: Command): Command {
  return command
    .option("--rate <number>", "maximum number of objects per second", "100")
    .option("--concurrency <number>", "maximum number of requests at a time", "8")
    .option(
      "--wait <duration>",
      "how long to retry objects that API servers still write under another key",
      "3m",
    );
}

async function run(options: MigrateOptions, terminal: Terminal): Promise<void> {
  const limits = limitsOf(options);
  const keyId = await targetKeyId(options);
  const api = KubeApi.connect(options);
  const observer = new MigrationProgress(terminal);
  try {
    const result = await withLiveEtcd(etcdAccess(options), (etcd) =>
      migrateStored(etcd, {
        ...options,
        ...limits,
        api,
        keyId,
        means: options.with,
        dryRun: options.dryRun === true,
        skipClusterCheck: options.skipClusterCheck === true,
        signal: undefined,
        operator: operatorAt(terminal),
        observer,
      }),
    );
    const shown = { json: migrationJson(result), text: describeMigration(result), change: changeOf(result) };
    printResult(shown, options.output, terminal);
    if (!isComplete(result)) {
      process.exitCode = result.done?.interrupted === true ? EXIT_INTERRUPTED : EXIT_NO;
    }
  } finally {
    observer.end();
    api.close();
  }
}

/** Returns whether no object is left; for a dry run, whether every object could be rewritten. */
function isComplete(result: MigrationResult): boolean {
  return result.isDryRun ? result.done?.failures.length === 0 : leftBy(result) === 0;
}

function changeOf(result: MigrationResult): Change {
  if (result.isDryRun) return { did: "plan a migration" };
  return { did: isComplete(result) ? "migrate" : "migrate a part" };
}

/** Returns the checked limits. @throws KmsError CONFIG_INVALID */
export function limitsOf({ rate, concurrency, wait }: LimitOptions): {
  rate: number;
  concurrency: number;
  settleMs: number;
} {
  const settleMs = durationOf("--wait", wait, "3m");
  return { rate: countOf("--rate", rate), concurrency: countOf("--concurrency", concurrency), settleMs };
}

function countOf(option: string, text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count > 0 && count <= 10_000) return count;
  throw new KmsError("CONFIG_INVALID", `${option}: give a whole number from 1 to 10000`);
}

/**
 * Returns the key_id to rewrite to.
 * @throws KmsError CONFIG_INVALID if `--key-id` is not the active one; see activeKeyId
 */
async function targetKeyId({
  keyId = "@active",
  socket,
  config,
  cluster,
  output,
}: MigrateOptions): Promise<string> {
  const option = "--key-id";
  const reference = parseKeyReference(option, keyId);
  if (reference.kind === "key_id") return reference.text;
  const active = await activeKeyId(await pluginSocket({ socket, config, cluster, output }));
  findReferenced(option, reference, [{ keyIds: [active], state: "active" }]);
  return active;
}

/**
 * Returns the key_id that the plugin publishes.
 * @throws KmsError PEER_UNREACHABLE; HSM_UNAVAILABLE if it is not healthy
 */
async function activeKeyId(socket: string): Promise<string> {
  const client = new KmsClient(socket);
  try {
    const { healthz, keyId } = await client.status();
    if (healthz === "ok") return keyId;
    throw new KmsError("HSM_UNAVAILABLE", `the plugin at ${socket} is not healthy: ${healthz}`);
  } finally {
    client.close();
  }
}

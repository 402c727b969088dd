// Has kube-apiserver rewrite every object in an etcd that is not under the active KEK, after checking that the API server
// uses this etcd, and reports the state before and after.
import { KmsError } from "../errors.js";
import { ApiResources } from "../etcd/api-resources.js";
import type { KubeApi } from "../etcd/kube-api.js";
import { migrate, type Migrated, type MigrationObserver } from "../etcd/migration.js";
import { compareClusters, type ComparisonPorts } from "../etcd/same-cluster.js";
import { parseStorageKey } from "../etcd/storage-key.js";
import type { StoredObject } from "../etcd/store.js";
import { stateOf, takeSurvey, type Aim, type Survey } from "../etcd/survey.js";
import { migrateByKubernetes } from "../etcd/version-migration.js";
import type { LiveEtcd } from "./etcd-source.js";
import { repeatableNotices, untilInterrupted } from "./interrupts.js";
import type { Operator } from "./operator.js";
import { aimOf, type AimOptions } from "./migration-aim.js";

export interface MigrationOrder extends AimOptions {
  readonly api: KubeApi;
  /** The active key_id, under which everything is rewritten. */
  readonly keyId: string;
  /** Maximum number of objects per second. */
  readonly rate: number;
  /** Maximum number of requests at a time. */
  readonly concurrency: number;
  /** How long to retry objects that API servers leave unchanged, in ms. */
  readonly settleMs: number;
  readonly means: "patches" | "svm";
  readonly dryRun: boolean;
  /** Whether to continue if it is unknown whether the API server uses this etcd. */
  readonly skipClusterCheck: boolean;
  /** Ends the migration; undefined if an interrupt of the process does, from the first request on. */
  readonly signal: AbortSignal | undefined;
  readonly operator: Pick<Operator, "notify">;
  /** `end` removes the display. */
  readonly observer: MigrationObserver & { end(): void };
}

export interface MigrationResult {
  readonly keyId: string;
  readonly before: Survey;
  /** Undefined if there was nothing to rewrite. */
  readonly done: Migrated | undefined;
  readonly isDryRun: boolean;
}

/**
 * Rewrites what is not under the active KEK, until nothing is left, the time is over, or an interrupt.
 * @throws KmsError CONFIG_INVALID if the API server uses another etcd or that is unknown; PEER_UNREACHABLE; CANCELLED if
 *   the given signal aborts before anything is rewritten
 */
export async function migrateStored(etcd: LiveEtcd, order: MigrationOrder): Promise<MigrationResult> {
  const { api, keyId, prefix, observer, dryRun: isDryRun, means, signal: given, operator } = order;
  const { rate, concurrency, settleMs } = order;
  const store = etcd.store(prefix);
  const aim = await aimOf(keyId, order, store);
  const before = await takeSurvey(store, aim, { prefix, observer: observer.surveys() });
  observer.end();
  if (before.left === 0) return { keyId, isDryRun: false, before, done: undefined };
  const ports = { store, prefix, api, resources: await ApiResources.discover(api) };
  await requireSameCluster(ports, () => staleObjects(ports, aim), order);
  if (given?.aborted === true) {
    throw new KmsError("CANCELLED", "interrupted; nothing was rewritten; run the command again to continue");
  }
  const rewriteAll = (signal: AbortSignal): Promise<Migrated> => {
    const options = { aim, rate, concurrency, settleMs, signal, observer };
    return means === "svm" && !isDryRun
      ? migrateByKubernetes(ports, before, options)
      : migrate(ports, before, { ...options, dryRun: isDryRun });
  };
  const done = await (given === undefined
    ? untilInterrupted(repeatableNotices(operator), rewriteAll)
    : rewriteAll(given));
  observer.end();
  return { keyId, isDryRun, before, done };
}

/** Returns how many objects are left that are not under the active KEK. */
export function leftBy({ before, done }: MigrationResult): number {
  return (done?.after ?? before).left;
}

/**
 * Checks that the API server uses this etcd.
 * @param samples objects that the API serves
 * @throws KmsError CONFIG_INVALID if it does not or that is unknown; PEER_UNREACHABLE
 */
export async function requireSameCluster(
  ports: ComparisonPorts,
  samples: () => AsyncIterable<StoredObject>,
  { skipClusterCheck }: Pick<MigrationOrder, "skipClusterCheck">,
): Promise<void> {
  const { verdict, text } = await compareClusters(ports, samples);
  if (verdict === "same" || (verdict === "unknown" && skipClusterCheck)) return;
  const { server } = ports.api;
  throw new KmsError(
    "CONFIG_INVALID",
    verdict === "different"
      ? `${server} is not an API server of this etcd: ${text}; nothing was changed; correct --kubeconfig, --context or --endpoints`
      : `it is unknown whether ${server} is an API server of this etcd: ${text}; nothing was changed; use a kubeconfig that may get the namespace kube-system, or, if you know that it is one, give --skip-cluster-check`,
  );
}

async function* staleObjects({ store, prefix }: ComparisonPorts, aim: Aim): AsyncGenerator<StoredObject> {
  for await (const object of store.objects()) {
    if (stateOf(object.value, parseStorageKey(object.key, prefix), aim) === "stale") yield object;
  }
}

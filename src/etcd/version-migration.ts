// Rewriting by Kubernetes itself, if the cluster serves storagemigration.k8s.io: creates one StorageVersionMigration
// per resource, which kube-controller-manager executes, waits for it to end and removes it.
import { setTimeout as sleep } from "node:timers/promises";
import PQueue from "p-queue";
import { KmsError } from "../errors.js";
import type { ApiResources } from "./api-resources.js";
import type { KubeApi } from "./kube-api.js";
import type { Failure, Migrated, MigrationObserver, MigrationPorts } from "./migration.js";
import { takeSurvey, type Aim, type Survey, type SurveyRow } from "./survey.js";

export interface VersionMigrationOptions {
  readonly aim: Aim;
  /** How long a controller may take to begin, and how long to retry objects that API servers leave unchanged. */
  readonly settleMs: number;
  /** Maximum number of resources at a time. */
  readonly concurrency: number;
  readonly signal: AbortSignal;
  readonly observer: MigrationObserver;
}

/** A resource in the form that StorageVersionMigration takes. */
interface GroupResource {
  readonly group: string;
  readonly resource: string;
}

const GROUP = "storagemigration.k8s.io";
const KIND = "storageversionmigrations";
const POLL_MS = 1_000;
const PAUSE_MS = 5_000;

/**
 * Rewrites the stale objects of a survey.
 * @throws KmsError CONFIG_INVALID if the cluster does not serve StorageVersionMigrations; DEADLINE if no controller
 * executes them; PEER_UNREACHABLE
 */
export async function migrateByKubernetes(
  ports: MigrationPorts,
  before: Survey,
  options: VersionMigrationOptions,
): Promise<Migrated> {
  const { aim, signal, settleMs, observer } = options;
  const { prefix } = ports;
  const version = servedVersion(ports.resources);
  let survey = before;
  let deadline: number | undefined;
  for (let passes = 1; ; passes++) {
    observer.handled(0, survey.left);
    const failures = await migrateOnce(ports, version, survey, options);
    survey = await takeSurvey(ports.store, aim, { prefix, observer: observer.surveys() });
    deadline ??= performance.now() + settleMs;
    // An API server that does not use the new key yet has nothing to rewrite, so stale objects are tried again.
    const hasStale = survey.rows.some(({ stale }) => stale > 0);
    if (!hasStale || failures.length > 0 || signal.aborted || performance.now() >= deadline) {
      const rewritten = Math.max(0, before.left - survey.left);
      const interrupted = signal.aborted;
      return { passes, rewritten, after: survey, overtaken: 0, gone: 0, failures, interrupted };
    }
    await sleep(Math.min(PAUSE_MS, settleMs), undefined, { signal }).catch(() => undefined);
  }
}

/** @throws KmsError CONFIG_INVALID */
function servedVersion(resources: ApiResources): string {
  const served = resources.find({ group: GROUP, resource: KIND });
  if ("version" in served) return served.version;
  throw new KmsError(
    "CONFIG_INVALID",
    `--with svm: this cluster does not serve ${GROUP} (feature gate StorageVersionMigrator); omit --with`,
  );
}

/** Executes one StorageVersionMigration per resource with stale objects. @throws KmsError if one cannot be completed */
async function migrateOnce(
  { api, resources }: MigrationPorts,
  version: string,
  survey: Survey,
  options: VersionMigrationOptions,
): Promise<Failure[]> {
  const collection = `/apis/${GROUP}/${version}/${KIND}`;
  const failures: Failure[] = [];
  let done = 0;
  const migrate = async ({ resource: name, stale }: SurveyRow): Promise<void> => {
    if (options.signal.aborted) return;
    const resource = groupResourceOf(name);
    const found = resources.find(resource);
    // v1alpha1 also requires the version of the resource.
    const resourceVersion = "version" in found && version === "v1alpha1" ? { version: found.version } : {};
    const body = migrationOf(version, { ...resource, ...resourceVersion });
    const reason = "reason" in found ? found.reason : await execute(api, collection, body, options);
    if (reason !== undefined) failures.push({ resource: name, reason, objects: stale, example: "" });
    options.observer.handled((done += stale), survey.left);
  };
  // Before each one the controller waits a minute or two, until its cache has the resource's latest revision.
  const queue = new PQueue({ concurrency: options.concurrency });
  const stale = survey.rows.filter((row) => row.stale > 0);
  const results = await Promise.allSettled(stale.map((row) => queue.add(() => migrate(row))));
  const rejected = results.find((result) => result.status === "rejected");
  if (rejected !== undefined) throw KmsError.from(rejected.reason);
  return failures;
}

function groupResourceOf(name: string): GroupResource {
  const dot = name.indexOf(".");
  return dot < 0
    ? { group: "", resource: name }
    : { group: name.slice(dot + 1), resource: name.slice(0, dot) };
}

function migrationOf(version: string, resource: object): object {
  return {
    apiVersion: `${GROUP}/${version}`,
    kind: "StorageVersionMigration",
    metadata: { generateName: "kms-pkcs11-" },
    spec: { resource },
  };
}

interface StorageVersionMigration {
  readonly metadata: { readonly name: string };
  readonly status?: {
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly message?: string;
    }[];
  };
}

/** Returns why it failed; undefined when it succeeded. */
async function execute(
  api: KubeApi,
  collection: string,
  json: object,
  { settleMs, signal }: VersionMigrationOptions,
): Promise<string | undefined> {
  const created = (await api.json({
    method: "POST",
    path: collection,
    body: { type: "application/json", json },
  })) as StorageVersionMigration;
  const path = `${collection}/${created.metadata.name}`;
  const deadline = performance.now() + settleMs;
  try {
    while (!signal.aborted) {
      const { status } = (await api.json({ method: "GET", path })) as StorageVersionMigration;
      const conditions = status?.conditions?.filter((one) => one.status === "True") ?? [];
      if (conditions.some(({ type }) => type === "Succeeded")) return undefined;
      const failed = conditions.find(({ type }) => type === "Failed");
      if (failed !== undefined) return failed.message ?? "the StorageVersionMigration failed";
      if (conditions.length === 0 && performance.now() > deadline) throw notStarted(settleMs);
      await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
    }
    return "interrupted";
  } finally {
    await api.request({ method: "DELETE", path });
  }
}

function notStarted(waitedMs: number): KmsError {
  return new KmsError(
    "DEADLINE",
    `no controller began a StorageVersionMigration within ${Math.round(waitedMs / 1000)} s: does kube-controller-manager run with the feature gate StorageVersionMigrator? Without --with svm no controller is needed`,
  );
}

// Rewriting by Kubernetes itself: one StorageVersionMigration a resource, which kube-controller-manager executes where
// the cluster serves storagemigration.k8s.io. Waits for each to end and removes it.
import { setTimeout as sleep } from "node:timers/promises";
import PQueue from "p-queue";
import { KmsError } from "../errors.js";
import type { ApiResources } from "./api-resources.js";
import type { KubeApi } from "./kube-api.js";
import type { Failure, Migrated, MigrationPorts } from "./migration.js";
import { takeSurvey, type Aim, type Survey, type SurveyRow } from "./survey.js";

export interface VersionMigrationOptions {
  readonly aim: Aim;
  /** How long a controller may take to begin, and how long to try again what API servers leave unchanged. */
  readonly settleMs: number;
  /** Resources at a time. */
  readonly concurrency: number;
  readonly signal: AbortSignal;
  /** Called with the number of objects dealt with. */
  readonly onProgress: (done: number) => void;
}

/** A resource as EncryptionConfiguration and kubectl name it. */
interface GroupResource {
  readonly group: string;
  readonly resource: string;
}

const GROUP = "storagemigration.k8s.io";
const KIND = "storageversionmigrations";
const POLL_MS = 1_000;
const PAUSE_MS = 5_000;

/** @throws KmsError CONFIG_INVALID when the cluster does not serve it; DEADLINE when nobody executes it */
export async function migrateByKubernetes(
  ports: MigrationPorts,
  before: Survey,
  options: VersionMigrationOptions,
): Promise<Migrated> {
  const { aim, signal, settleMs } = options;
  const version = servedVersion(ports.resources);
  let survey = before;
  let deadline: number | undefined;
  for (let passes = 1; ; passes++) {
    const done = before.left - survey.left;
    const failures = await migrateOnce(ports, version, survey, {
      ...options,
      onProgress: (more) => {
        options.onProgress(done + more);
      },
    });
    survey = await takeSurvey(ports.store, ports.prefix, aim);
    deadline ??= performance.now() + settleMs;
    // An API server that does not know the new key yet finds nothing to rewrite: tried again later.
    const isLeft = survey.rows.some(({ stale }) => stale > 0);
    if (!isLeft || failures.length > 0 || signal.aborted || performance.now() >= deadline) {
      const rewritten = Math.max(0, before.left - survey.left);
      const rest = { overtaken: 0, gone: 0, failures, interrupted: signal.aborted };
      return { passes, rewritten, after: survey, ...rest };
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
    `--with svm: this cluster does not serve ${GROUP} (feature gate StorageVersionMigrator); leave --with out`,
  );
}

/** One StorageVersionMigration for each resource of which something is stale. @throws KmsError when one breaks off */
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
    // The first version of the API wants the resource's version, too.
    const its = "version" in found && version === "v1alpha1" ? { version: found.version } : {};
    const body = migrationOf(version, { ...resource, ...its });
    const reason = "reason" in found ? found.reason : await execute(api, collection, body, options);
    if (reason !== undefined) failures.push({ resource: name, reason, objects: stale, example: "" });
    options.onProgress((done += stale));
  };
  // The controller waits a minute or two before each, until its cache has seen the resource's latest revision.
  const queue = new PQueue({ concurrency: options.concurrency });
  const stale = survey.rows.filter((row) => row.stale > 0);
  const results = await Promise.allSettled(stale.map((row) => queue.add(() => migrate(row))));
  const broken = results.find((result) => result.status === "rejected");
  if (broken !== undefined) throw KmsError.from(broken.reason);
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
      if (conditions.length === 0 && performance.now() > deadline) throw nobodyBegins(settleMs);
      await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
    }
    return "interrupted";
  } finally {
    await api.request({ method: "DELETE", path });
  }
}

function nobodyBegins(waitedMs: number): KmsError {
  return new KmsError(
    "DEADLINE",
    `no controller began with a StorageVersionMigration in ${Math.round(waitedMs / 1000)} s: is kube-controller-manager running with the feature gate StorageVersionMigrator? Without --with svm no controller is needed`,
  );
}

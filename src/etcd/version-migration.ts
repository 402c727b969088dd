// Rewriting by Kubernetes itself: one StorageVersionMigration a resource, which kube-controller-manager executes where
// the cluster serves storagemigration.k8s.io. Waits for each to end and removes it.
import { setTimeout as sleep } from "node:timers/promises";
import { KmsError } from "../errors.js";
import type { KubeApi } from "./kube-api.js";
import type { Failure, Migrated, MigrationPorts } from "./migration.js";
import { takeSurvey, type Aim, type Survey } from "./survey.js";

export interface VersionMigrationOptions {
  readonly aim: Aim;
  /** How long a controller may take to begin. */
  readonly settleMs: number;
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

/** @throws KmsError CONFIG_INVALID when the cluster does not serve it; DEADLINE when nobody executes it */
export async function migrateByKubernetes(
  { api, resources, store, prefix }: MigrationPorts,
  before: Survey,
  options: VersionMigrationOptions,
): Promise<Migrated> {
  const { aim, signal, onProgress } = options;
  const served = resources.find({ group: GROUP, resource: KIND });
  if ("reason" in served) {
    throw new KmsError(
      "CONFIG_INVALID",
      `--with svm: this cluster does not serve ${GROUP} (feature gate StorageVersionMigrator); leave --with out`,
    );
  }
  const failures: Failure[] = [];
  let done = 0;
  for (const { resource: name, stale } of before.rows.filter((row) => row.stale > 0)) {
    if (signal.aborted) break;
    const resource = groupResourceOf(name);
    const found = resources.find(resource);
    // The first version of the API wants the resource's version, too.
    const version = "version" in found && served.version === "v1alpha1" ? { version: found.version } : {};
    const body = migrationOf(served.version, { ...resource, ...version });
    const collection = `/apis/${GROUP}/${served.version}/${KIND}`;
    const reason = "reason" in found ? found.reason : await execute(api, collection, body, options);
    if (reason !== undefined) failures.push({ resource: name, reason, objects: stale, example: "" });
    onProgress((done += stale));
  }
  const after = await takeSurvey(store, prefix, aim);
  const rewritten = Math.max(0, before.left - after.left);
  return { passes: 1, rewritten, overtaken: 0, gone: 0, failures, after, interrupted: signal.aborted };
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
    `no controller began with a StorageVersionMigration in ${String(Math.round(waitedMs / 1000))} s: is kube-controller-manager running with the feature gate StorageVersionMigrator? Without --with svm no controller is needed`,
  );
}

// Finds the API paths of the objects to delete. Before the operator is asked, checks that kube-apiserver serves this etcd,
// supports the deletion of unreadable objects, and permits it.
import { KmsError } from "../../errors.js";
import { collectionPath, type ApiResources } from "../../etcd/api-resources.js";
import type { KubeApi } from "../../etcd/kube-api.js";
import { parseStorageKey } from "../../etcd/storage-key.js";
import type { EtcdStore } from "../../etcd/store.js";
import { askApi, missingRight, NEEDED_VERBS } from "../../etcd/unsafe-delete.js";
import { requireSameCluster } from "../migrate-stored.js";
import type { Kept } from "./deletable.js";
import type { Finding } from "./find-unreadable.js";

export interface Addressed {
  readonly finding: Finding;
  /** The object's path in the API. */
  readonly path: string;
  /** The path of all objects of its resource. */
  readonly collection: string;
  readonly type: { readonly group: string; readonly resource: string };
}

export interface ApiPorts {
  readonly store: EtcdStore;
  readonly prefix: string;
  readonly api: KubeApi;
  readonly resources: ApiResources;
}

/**
 * Returns the objects with their paths, and those that the API does not serve.
 * @throws KmsError CONFIG_INVALID if the API server does not serve this etcd, lacks the feature or refuses the user;
 *   PEER_UNREACHABLE
 */
export async function addressAll(
  findings: readonly Finding[],
  { store, prefix, api, resources }: ApiPorts,
  options: { readonly skipClusterCheck: boolean },
): Promise<{ readonly addressed: readonly Addressed[]; readonly kept: readonly Kept[] }> {
  if (findings.length === 0) return { addressed: [], kept: [] };
  await requireSameCluster({ store, prefix, api, resources }, () => store.objects(), options);
  const addressed: Addressed[] = [];
  const kept: Kept[] = [];
  const asked = new Set<string>();
  for (const finding of findings) {
    const found = addressOf(finding, prefix, resources);
    if ("why" in found) kept.push(found);
    else addressed.push(found);
    if ("why" in found || asked.has(found.collection)) continue;
    asked.add(found.collection);
    await requireAble(api, found);
  }
  return { addressed, kept };
}

function addressOf(finding: Finding, prefix: string, resources: ApiResources): Addressed | Kept {
  const object = parseStorageKey(finding.key, prefix);
  if (object === undefined) return { finding, why: "its key is not that of an API object" };
  const served = resources.find(object, "delete");
  if ("reason" in served) return { finding, why: served.reason };
  const found = resources.pathOf(object, "delete");
  if ("reason" in found) return { finding, why: found.reason };
  const { resource } = object;
  const collection = collectionPath(served, resource);
  return { finding, path: found.path, collection, type: { group: served.group, resource } };
}

async function requireAble(api: KubeApi, { finding, path, type }: Addressed): Promise<void> {
  const verb = await missingRight(api, type);
  if (verb !== undefined) {
    throw new KmsError(
      "CONFIG_INVALID",
      `the kubeconfig's user may not ${verb} ${finding.resource}; grant it the verbs ${NEEDED_VERBS.join(", ")} for ${finding.resource} by a ClusterRole and a ClusterRoleBinding; nothing was deleted`,
    );
  }
  const verdict = await askApi(api, path);
  if (verdict.kind === "unsupported") throw new KmsError("CONFIG_INVALID", verdict.reason);
}

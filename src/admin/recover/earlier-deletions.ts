// What became of the listed objects that are no longer unreadable. An interrupted run may have deleted them: a repeated one reports
// them, and checks that their resources can be listed.
import { ApiResources, collectionPath } from "../../etcd/api-resources.js";
import type { KubeApi } from "../../etcd/kube-api.js";
import { parseStorageKey, resourceOf } from "../../etcd/storage-key.js";
import type { ObjectStore } from "../../etcd/store.js";
import type { Selection } from "./deletable.js";
import type { Finding } from "./find-unreadable.js";

export interface Earlier {
  readonly key: string;
  readonly modRevision: number;
  readonly outcome: "gone" | "changed";
  /** Null for what is gone. */
  readonly reason: string | null;
}

/** Returns what became of the objects of --only that are not among the findings. @throws KmsError if etcd is away */
export async function settledEarlier(
  only: Selection["only"],
  findings: readonly Finding[],
  store: Pick<ObjectStore, "object">,
): Promise<Earlier[]> {
  const found = new Set(findings.map(({ key }) => key));
  const settled: Earlier[] = [];
  for (const { key, modRevision } of only ?? []) {
    if (found.has(key)) continue;
    const now = await store.object(key);
    if (now === undefined) {
      settled.push({ key, modRevision, outcome: "gone", reason: null });
      continue;
    }
    const reason =
      now.modRevision === modRevision
        ? "it can be decrypted now"
        : `it was written again, at revision ${now.modRevision}`;
    settled.push({ key, modRevision, outcome: "changed", reason });
  }
  return settled;
}

/** Returns the paths of all objects of the resources of which an object is gone, by resource. @throws KmsError PEER_UNREACHABLE */
export async function collectionsOfGone(
  earlier: readonly Earlier[],
  prefix: string,
  api: KubeApi,
): Promise<Map<string, string>> {
  const collections = new Map<string, string>();
  const gone = earlier.filter(({ outcome }) => outcome === "gone");
  if (gone.length === 0) return collections;
  const resources = await ApiResources.discover(api);
  for (const { key } of gone) {
    const object = parseStorageKey(key, prefix);
    if (object === undefined) continue;
    const served = resources.find(object, "list");
    if ("reason" in served) continue;
    collections.set(resourceOf(object), collectionPath(served, object.resource));
  }
  return collections;
}

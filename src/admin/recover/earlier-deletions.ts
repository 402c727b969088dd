// What became of listed objects that are not unreadable any more: an interrupted run may have deleted them, so that a repeated
// one has to report them and to look whether their resources can be listed.
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
    const same = now?.modRevision === modRevision;
    const changed = same
      ? "it can be decrypted now"
      : `it was written again, at revision ${now?.modRevision ?? 0}`;
    settled.push({ key, modRevision, outcome: now ? "changed" : "gone", reason: now ? changed : null });
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

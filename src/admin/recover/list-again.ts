// Checks that kube-apiserver can list the resources again from which this run or an earlier one deleted objects.
import { collectionPath, type ApiResources } from "../../etcd/api-resources.js";
import type { KubeApi } from "../../etcd/kube-api.js";
import { waitForList } from "../../etcd/list-check.js";
import { parseStorageKey, resourceOf } from "../../etcd/storage-key.js";
import type { Operator } from "../operator.js";
import type { Earlier } from "./earlier-deletions.js";

export interface ListResult {
  readonly resource: string;
  /** Why LIST fails; null if it works. */
  readonly error: string | null;
}

/** How long a LIST may take to work again, in ms. */
const LIST_LIMIT_MS = 60_000;

/**
 * Waits until every resource can be listed, or until an interrupt. Once one resource has used up the time, tries each of the
 * others only once. Never throws.
 * @param collections their paths, by resource
 */
export async function listAgain(
  collections: ReadonlyMap<string, string>,
  api: KubeApi,
  signal: AbortSignal,
  operator: Operator,
): Promise<ListResult[]> {
  const results: ListResult[] = [];
  let limitMs = LIST_LIMIT_MS;
  for (const [resource, path] of collections) {
    const end = operator.showStatus(() => `waiting until kube-apiserver lists ${resource}`);
    const error = (await waitForList(api, path, limitMs, signal)) ?? null;
    end();
    if (error !== null) limitMs = 0;
    results.push({ resource, error });
  }
  return results;
}

/** Returns the paths of all objects of the resources of which an object is gone, by resource. */
export function collectionsOfGone(
  earlier: readonly Earlier[],
  prefix: string,
  resources: ApiResources,
): Map<string, string> {
  const collections = new Map<string, string>();
  for (const { key } of earlier.filter(({ outcome }) => outcome === "gone")) {
    const object = parseStorageKey(key, prefix);
    if (object === undefined) continue;
    const served = resources.find(object, "list");
    if ("reason" in served) continue;
    collections.set(resourceOf(object), collectionPath(served, object.resource));
  }
  return collections;
}

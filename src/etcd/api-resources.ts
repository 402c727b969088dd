// The API path of an object in etcd. Uses aggregated discovery, requested once. An object without a path is reported
// with the reason, never skipped silently.
import { KmsError } from "../errors.js";
import type { KubeApi } from "./kube-api.js";
import { resourceName, type ApiObjectName } from "./storage-key.js";

export interface ServedResource {
  readonly group: string;
  readonly version: string;
  readonly isNamespaced: boolean;
  readonly verbs: readonly string[];
}

/** What a command needs to do with an object. */
type Verb = "list" | "patch" | "delete";

const DOING: Record<Verb, string> = { list: "listing", patch: "patching", delete: "deleting" };

/** Why the API cannot serve an object. */
export interface Unserved {
  readonly reason: string;
}

/** apidiscovery.k8s.io, as served since Kubernetes 1.27 (v2beta1) and 1.30 (v2). */
interface Discovery {
  readonly kind?: string;
  readonly items?: readonly {
    readonly metadata?: { readonly name?: string };
    readonly versions?: readonly {
      readonly version: string;
      readonly resources?: readonly {
        readonly resource: string;
        readonly scope: string;
        readonly verbs: readonly string[];
      }[];
    }[];
  }[];
}

const AGGREGATED = ["v2", "v2beta1"]
  .map((version) => `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`)
  .join(",");

export class ApiResources {
  /** For each resource, the groups that serve it, each in its preferred version. */
  readonly #served = new Map<string, ServedResource[]>();

  /** Asks the API server for all resources that it serves. @throws KmsError PEER_UNREACHABLE */
  static async discover(api: KubeApi): Promise<ApiResources> {
    const resources = new ApiResources();
    for (const path of ["/api", "/apis"]) {
      resources.#add((await api.json({ method: "GET", path, accept: AGGREGATED })) as Discovery);
    }
    return resources;
  }

  #add({ kind, items = [] }: Discovery): void {
    if (kind !== "APIGroupDiscoveryList") {
      throw new KmsError(
        "PEER_UNREACHABLE",
        "kube-apiserver does not serve aggregated discovery, which every release with KMS v2 has; is --kubeconfig that of this cluster?",
      );
    }
    for (const { metadata, versions = [] } of items) {
      for (const { version, resources = [] } of versions) {
        for (const { resource, scope, verbs } of resources) {
          const known = this.#served.get(resource) ?? [];
          const group = metadata?.name ?? "";
          // The first version is the preferred one.
          if (known.some((one) => one.group === group)) continue;
          const isNamespaced = scope === "Namespaced";
          known.push({ group, version, isNamespaced, verbs });
          this.#served.set(resource, known);
        }
      }
    }
  }

  /** Returns the group and version that serve a resource, or why none does. */
  find(
    { group, resource }: Pick<ApiObjectName, "group" | "resource">,
    verb: Verb = "patch",
  ): ServedResource | Unserved {
    const served = this.#served.get(resource) ?? [];
    // The etcd key of a built-in resource does not contain its group.
    const candidates = group === undefined ? served : served.filter((one) => one.group === group);
    const [first, ...more] = candidates;
    if (first === undefined) return { reason: "the API does not serve this resource" };
    if (more.length > 0) {
      return { reason: `several groups serve it: ${candidates.map((one) => one.group).join(", ")}` };
    }
    return first.verbs.includes(verb) ? first : { reason: `the API does not allow ${DOING[verb]} it` };
  }

  /** Returns the path of one object, or why it has none. */
  pathOf(object: ApiObjectName, verb: Verb = "patch"): { readonly path: string } | Unserved {
    const served = this.find(object, verb);
    if ("reason" in served) return served;
    const { namespace, resource, name } = object;
    // A path with these would lead to another object.
    if ([namespace, name].some((part) => part === "." || part === "..")) {
      return { reason: "the API has no object of this name" };
    }
    if (served.isNamespaced !== (namespace !== undefined)) {
      const scope = served.isNamespaced ? "in namespaces" : "without namespaces";
      return { reason: `the API serves ${resourceName(object)} ${scope}` };
    }
    const scope = namespace === undefined ? "" : `/namespaces/${encodeURIComponent(namespace)}`;
    return { path: `${baseOf(served)}${scope}/${resource}/${encodeURIComponent(name)}` };
  }
}

/** Returns the path under which the API serves all objects of a resource. */
export function collectionPath(served: ServedResource, resource: string): string {
  return `${baseOf(served)}/${resource}`;
}

function baseOf({ group, version }: ServedResource): string {
  return group === "" ? `/api/${version}` : `/apis/${group}/${version}`;
}

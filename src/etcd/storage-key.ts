// The API object that an etcd key belongs to. kube-apiserver uses the key `<prefix>/<resource>/[<namespace>/]<name>`,
// and `<prefix>/<group>/<resource>/...` for custom resources and for the objects of its extension and aggregation
// servers (k8s.io/kubernetes, pkg/kubeapiserver/default_storage_factory_builder.go).

export interface ApiObjectName {
  /** "" for the core group; undefined for a built-in resource that is missing from the table below. */
  readonly group: string | undefined;
  readonly resource: string;
  /** Undefined for cluster-scoped objects. */
  readonly namespace: string | undefined;
  readonly name: string;
}

/** Resources that are stored under a different name. */
const SPECIAL = new Map([
  ["controllers", "replicationcontrollers"],
  ["minions", "nodes"],
  ["ingress", "ingresses"],
  ["podsecuritypolicy", "podsecuritypolicies"],
  ["services/specs", "services"],
  ["services/endpoints", "endpoints"],
]);

/** Matches resources and groups as API servers write them. Keys from anybody else who can write to etcd may differ. */
const API_NAME = /^[a-z0-9.-]+$/i;

/** Internal records of kube-apiserver, which it never encrypts. */
const OWN_RECORDS = new Set(["masterleases", "peerserverleases", "ranges"]);

const GROUPS: Readonly<Record<string, string>> = {
  "": "bindings configmaps endpoints events limitranges namespaces nodes persistentvolumeclaims persistentvolumes pods podtemplates replicationcontrollers resourcequotas secrets serviceaccounts services",
  "admissionregistration.k8s.io":
    "mutatingadmissionpolicies mutatingadmissionpolicybindings mutatingwebhookconfigurations validatingadmissionpolicies validatingadmissionpolicybindings validatingwebhookconfigurations",
  apps: "controllerrevisions daemonsets deployments replicasets statefulsets",
  autoscaling: "horizontalpodautoscalers",
  batch: "cronjobs jobs",
  "certificates.k8s.io": "certificatesigningrequests clustertrustbundles podcertificaterequests",
  "coordination.k8s.io": "leases leasecandidates",
  "discovery.k8s.io": "endpointslices",
  "flowcontrol.apiserver.k8s.io": "flowschemas prioritylevelconfigurations",
  "internal.apiserver.k8s.io": "storageversions",
  "networking.k8s.io": "ingressclasses ingresses ipaddresses networkpolicies servicecidrs",
  "node.k8s.io": "runtimeclasses",
  policy: "poddisruptionbudgets podsecuritypolicies",
  "rbac.authorization.k8s.io": "clusterrolebindings clusterroles rolebindings roles",
  "resource.k8s.io": "deviceclasses devicetaintrules resourceclaims resourceclaimtemplates resourceslices",
  "scheduling.k8s.io": "priorityclasses workloads",
  "storage.k8s.io":
    "csidrivers csinodes csistoragecapacities storageclasses volumeattachments volumeattributesclasses",
  "storagemigration.k8s.io": "storageversionmigrations",
};

const GROUP_OF = new Map(
  Object.entries(GROUPS).flatMap(([group, resources]) =>
    resources.split(" ").map((resource): [string, string] => [resource, group]),
  ),
);

const DEFAULT_PREFIX = "/registry/";

/**
 * Returns the object of a key; undefined if the key does not belong to an API object, such as the ranges of service
 * addresses.
 * @param prefix kube-apiserver's `--etcd-prefix`, with or without slashes at either end; a prefix that begins with the
 *   default one is treated as the default
 */
export function parseStorageKey(key: string, prefix: string): ApiObjectName | undefined {
  const start = startOfKeys(prefix);
  if (!key.startsWith(start)) return undefined;
  const [first = "", second = "", ...rest] = key.slice(start.length).split("/");
  const special = first === "services" ? SPECIAL.get(`services/${second}`) : undefined;
  if (special !== undefined) return named("", special, rest);
  // Only groups contain dots; resources are lower-case letters.
  if (first.includes(".")) return named(first, second, rest);
  if (OWN_RECORDS.has(first)) return undefined;
  const resource = SPECIAL.get(first) ?? first;
  return named(GROUP_OF.get(resource), resource, [second, ...rest]);
}

let latest = { prefix: DEFAULT_PREFIX, start: DEFAULT_PREFIX };

/** Returns what all keys begin with; remembers it, since a command parses a million keys under one prefix. */
function startOfKeys(prefix: string): string {
  if (latest.prefix === prefix) return latest.start;
  const given = normalPrefix(prefix);
  latest = { prefix, start: given.startsWith(DEFAULT_PREFIX) ? DEFAULT_PREFIX : given };
  return latest.start;
}

function named(
  group: string | undefined,
  resource: string,
  rest: readonly string[],
): ApiObjectName | undefined {
  const [first, second, more] = rest;
  if (!API_NAME.test(resource) || (group !== undefined && group !== "" && !API_NAME.test(group))) {
    return undefined;
  }
  if (first === undefined || first === "" || more !== undefined) return undefined;
  if (second === undefined) return { group, resource, namespace: undefined, name: first };
  return second === "" ? undefined : { group, resource, namespace: first, name: second };
}

/** Returns the prefix as kube-apiserver puts it before every key, with a slash at either end. */
export function normalPrefix(prefix: string): string {
  const bare = prefix.split("/").filter((part) => part !== "");
  return bare.length === 0 ? "/" : `/${bare.join("/")}/`;
}

/** Returns a resource's name in EncryptionConfiguration and kubectl: `secrets`, `deployments.apps`. */
export function resourceName({ group, resource }: Pick<ApiObjectName, "group" | "resource">): string {
  return group === undefined || group === "" ? resource : `${resource}.${group}`;
}

/** In reports, in place of a resource: keys that do not belong to an API object. */
export const NO_API_OBJECT = "(no API object)";

/** Returns the resource name for a report, which also covers keys that do not belong to an API object. */
export function resourceOf(object: ApiObjectName | undefined): string {
  return object === undefined ? NO_API_OBJECT : resourceName(object);
}

// Which API object an etcd key belongs to. kube-apiserver stores under `<prefix>/<resource>/[<namespace>/]<name>`;
// custom resources, and what its extension and aggregation servers store, under `<group>/<resource>` instead
// (k8s.io/kubernetes, pkg/kubeapiserver/default_storage_factory_builder.go).

export interface ApiObjectName {
  /** "" for the core group; undefined for a built-in resource that this release does not know. */
  readonly group: string | undefined;
  readonly resource: string;
  /** Undefined for objects of the cluster. */
  readonly namespace: string | undefined;
  readonly name: string;
}

/** Resources that are stored under another name than their own. */
const SPECIAL = new Map([
  ["controllers", "replicationcontrollers"],
  ["minions", "nodes"],
  ["ingress", "ingresses"],
  ["podsecuritypolicy", "podsecuritypolicies"],
  ["services/specs", "services"],
  ["services/endpoints", "endpoints"],
]);

/** A resource, and a group: parts of an API server's own paths. Anybody who writes to etcd writes others. */
const API_NAME = /^[a-z0-9.-]+$/i;

/** kube-apiserver's own records, which it never encrypts. */
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
 * @param prefix kube-apiserver's `--etcd-prefix`, with or without its slashes; a longer one than the default counts
 *   as the default
 * @returns undefined for a key that is no API object's, such as the ranges of service addresses
 */
export function parseStorageKey(key: string, prefix: string): ApiObjectName | undefined {
  const given = normalPrefix(prefix);
  const start = given.startsWith(DEFAULT_PREFIX) ? DEFAULT_PREFIX : given;
  if (!key.startsWith(start)) return undefined;
  const [first = "", second = "", ...rest] = key.slice(start.length).split("/");
  const special = SPECIAL.get(`${first}/${second}`);
  if (special !== undefined) return named("", special, rest);
  // Only groups have dots in them: resources are lower-case letters.
  if (first.includes(".")) return named(first, second, rest);
  if (OWN_RECORDS.has(first)) return undefined;
  const resource = SPECIAL.get(first) ?? first;
  return named(GROUP_OF.get(resource), resource, [second, ...rest]);
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

/** The prefix of every key, as kube-apiserver joins it: a slash at either end. */
export function normalPrefix(prefix: string): string {
  const bare = prefix.split("/").filter((part) => part !== "");
  return bare.length === 0 ? "/" : `/${bare.join("/")}/`;
}

/** A resource as EncryptionConfiguration and kubectl name it: `secrets`, `deployments.apps`. */
export function resourceName({ group, resource }: Pick<ApiObjectName, "group" | "resource">): string {
  return group === undefined || group === "" ? resource : `${resource}.${group}`;
}

// Advice on an EncryptionConfiguration that kube-apiserver accepts but that does not protect the cluster as intended.
// Compares it with this plugin (its socket, the token's speed) and, if known, with the objects in etcd. Every warning
// says what to do.
import { formatDuration } from "./duration.js";
import {
  providersOfResource,
  readPrefixes,
  storedPrefix,
  type EncryptionConfiguration,
} from "./encryption-configuration.js";
import type { EncryptionProvider, EncryptionRule } from "./encryption-schema.js";
import { formatSocketAddress, sameSocket, socketOfEndpoint, type SocketAddress } from "./socket-address.js";

export interface Advice {
  readonly verdict: "ok" | "warn" | "fail";
  readonly text: string;
}

export interface EncryptionFacts {
  /** The plugin's socket. */
  readonly socket: SocketAddress | undefined;
  /** The plugin's own time limit for the HSM. */
  readonly requestTimeoutMs: number;
  /** 99th percentile of Encrypt on the token; undefined if not measured. */
  readonly p99Ms: number | undefined;
  /** The objects in etcd; undefined if there is no usage report. */
  readonly stored: readonly StoredUnder[] | undefined;
}

/** The number of objects of a resource with a prefix in etcd; the empty prefix means in clear. */
export interface StoredUnder {
  readonly resource: string;
  readonly prefix: string;
  readonly objects: number;
}

type KmsEntry = EncryptionProvider & { readonly kind: "kms" };

/** Resources that exist in every cluster and often contain confidential data. */
const OFTEN_CONFIDENTIAL = ["configmaps"];
/** Stands for the custom resources; only `*.*` covers all of them. */
const ALL_OTHERS = "*.*";

/** Returns advice on endpoints, providers, rules, resources without encryption and objects that no provider reads. */
export function adviseOnEncryption(configuration: EncryptionConfiguration, facts: EncryptionFacts): Advice[] {
  const entries = kmsEntries(configuration);
  return [
    ...adviseOnEndpoints(entries, facts),
    ...entries.flatMap((entry) => adviseOnEntry(entry, facts)),
    ...configuration.rules.flatMap((rule) => adviseOnRule(rule, facts.stored)),
    ...adviseOnCoverage(configuration),
    ...adviseOnStored(configuration, facts.stored ?? []),
  ];
}

function kmsEntries({ rules }: EncryptionConfiguration): KmsEntry[] {
  return rules.flatMap(({ providers }) => providers.filter((one) => one.kind === "kms"));
}

function adviseOnEndpoints(entries: readonly KmsEntry[], { socket }: EncryptionFacts): Advice[] {
  if (entries.length === 0) {
    return [
      fail("no kms provider, so this plugin encrypts nothing; add a kms provider to the rule for secrets"),
    ];
  }
  const twice = entries.filter((entry, at) => entries.findIndex(sameEndpoint(entry)) < at);
  const advice = twice.map(({ name, endpoint }) =>
    warn(
      `kms provider ${name} is the second one on ${endpoint}: each has its own DEK seeds and connection; put all resources in one rule with one kms provider`,
    ),
  );
  if (socket === undefined) return advice;
  const ours = formatSocketAddress(socket);
  const others = entries.filter(({ endpoint }) => !leadsTo(endpoint, socket));
  const otherEndpoints = others.map(({ name, endpoint }) => `${name} at ${endpoint}`).join(", ");
  if (others.length === entries.length) {
    return [
      ...advice,
      warn(
        `no kms provider uses ${ours}, where this plugin serves; found ${otherEndpoints}; correct the endpoint`,
      ),
    ];
  }
  return [
    ...advice,
    ok(`the plugin serves at ${ours}${otherEndpoints === "" ? "" : `; others: ${otherEndpoints}`}`),
  ];
}

const sameEndpoint =
  (one: KmsEntry) =>
  (other: KmsEntry): boolean =>
    leadsTo(one.endpoint, socketOfEndpoint(other.endpoint));

function leadsTo(endpoint: string, socket: SocketAddress | undefined): boolean {
  const dialled = socketOfEndpoint(endpoint);
  return dialled !== undefined && socket !== undefined && sameSocket(dialled, socket);
}

function adviseOnEntry(entry: KmsEntry, { p99Ms, requestTimeoutMs }: EncryptionFacts): Advice[] {
  const { name, apiVersion, timeoutMs } = entry;
  const advice: Advice[] = [];
  if (apiVersion === "v1") {
    advice.push(
      fail(
        `kms provider ${name} is v1 (the default apiVersion), which this plugin does not serve and kube-apiserver has disabled since 1.29; add apiVersion: v2`,
      ),
    );
  }
  const timeout = `kms provider ${name}: its timeout of ${formatDuration(Math.round(timeoutMs))}`;
  if (p99Ms !== undefined && timeoutMs < p99Ms) {
    advice.push(
      warn(`${timeout} is below the 99th percentile of this token, ${p99Ms.toFixed(1)} ms; set timeout: 3s`),
    );
  } else if (timeoutMs < requestTimeoutMs) {
    advice.push(
      warn(
        `${timeout} is below the plugin's own (hsm.requestTimeout ${formatDuration(requestTimeoutMs)}); set timeout: 3s`,
      ),
    );
  }
  return advice;
}

function adviseOnRule({ resources, providers }: EncryptionRule, stored: EncryptionFacts["stored"]): Advice[] {
  const subject = resources.join(", ");
  const [writer] = providers;
  if (writer?.kind === "identity") {
    return [
      warn(
        `${subject}: identity comes first, so they are written in clear; when every API server has kms in its list, put kms first`,
      ),
    ];
  }
  const advice =
    writer === undefined || writer.kind === "kms"
      ? []
      : [
          warn(
            `${subject}: ${writer.kind} comes first, so a key in this file encrypts them; put kms first to use the HSM`,
          ),
        ];
  if (!providers.some(({ kind }) => kind === "identity")) return advice;
  return [...advice, adviseOnIdentity(subject, resources, stored)];
}

function adviseOnIdentity(
  subject: string,
  resources: readonly string[],
  stored: EncryptionFacts["stored"],
): Advice {
  const present = `${subject}: identity is in the list`;
  if (stored === undefined) {
    return ok(
      `${present}, which is right until every object is encrypted; give a report of 'etcd usage --report' as --usage-report to check that`,
    );
  }
  const clear = stored.filter(({ resource, prefix }) => prefix === "" && names(resources, resource));
  const objects = clear.reduce((sum, one) => sum + one.objects, 0);
  if (objects > 0) {
    return ok(
      `${present}, which is needed: ${objects} objects are in clear; encrypt them with 'etcd migrate'`,
    );
  }
  return warn(
    `${present}, but no object is in clear any more: anybody who can write to etcd could plant objects; remove identity`,
  );
}

/** Returns whether a rule's list contains a resource, by its name or by a wildcard. */
function names(list: readonly string[], resource: string): boolean {
  return providersOfResource({ rules: [{ resources: list, providers: [] }] }, resource) !== undefined;
}

function adviseOnCoverage(configuration: EncryptionConfiguration): Advice[] {
  const isEncrypted = (resource: string): boolean =>
    providersOfResource(configuration, resource)?.some(({ kind }) => kind === "kms") === true;
  const advice: Advice[] = [];
  if (!isEncrypted("secrets")) {
    advice.push(warn("secrets are not encrypted by kms; add them to the kms rule"));
  }
  const others = [...OFTEN_CONFIDENTIAL, ALL_OTHERS].filter((resource) => !isEncrypted(resource));
  if (others.length > 0) {
    advice.push(
      warn(
        `not encrypted by kms: ${others.join(" and ").replace(ALL_OTHERS, "custom resources")}; if they contain secrets, add them, or a last rule for "*.*"`,
      ),
    );
  }
  return advice;
}

/** Returns a failure for objects that no provider reads, such as those of a provider that has been renamed. */
function adviseOnStored(configuration: EncryptionConfiguration, stored: readonly StoredUnder[]): Advice[] {
  return stored.flatMap(({ resource, prefix, objects }) => {
    const providers = providersOfResource(configuration, resource) ?? [{ kind: "identity" } as const];
    if (providers.some((one) => readPrefixes(one).includes(prefix))) return [];
    const under = prefix === "" ? "in clear" : `under ${prefix}`;
    const known = providers.map((one) => storedPrefix(one) || "identity").join(", ");
    return [
      fail(
        `${objects} objects of ${resource} are stored ${under}, which no provider in this file reads (${known}); add the provider that wrote them, with the name it had then`,
      ),
    ];
  });
}

const ok = (text: string): Advice => ({ verdict: "ok", text });
const warn = (text: string): Advice => ({ verdict: "warn", text });
const fail = (text: string): Advice => ({ verdict: "fail", text });

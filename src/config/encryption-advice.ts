// What is amiss, or soon will be, in an EncryptionConfiguration that kube-apiserver would accept: seen from this
// plugin (its socket, how quick its token is) and, where it is known, from what etcd holds. Each piece of advice says
// what to do.
import {
  providersOfResource,
  readPrefixes,
  storedPrefix,
  type EncryptionConfiguration,
  type EncryptionProvider,
  type EncryptionRule,
} from "./encryption-configuration.js";
import { formatDuration } from "./duration.js";
import { sameSocket, socketOfEndpoint, type SocketAddress } from "./socket-address.js";

export interface Advice {
  readonly verdict: "ok" | "warn" | "fail";
  readonly text: string;
}

export interface EncryptionFacts {
  /** Where the plugin serves. */
  readonly socket: SocketAddress | undefined;
  /** How long the plugin itself waits for its HSM. */
  readonly requestTimeoutMs: number;
  /** 99th percentile of Encrypt on the token. */
  readonly p99Ms: number | undefined;
  /** What etcd holds; undefined when nobody looked. */
  readonly stored: readonly StoredUnder[] | undefined;
}

/** So many objects of a resource carry this prefix in etcd; the empty one is in clear. */
export interface StoredUnder {
  readonly resource: string;
  readonly prefix: string;
  readonly objects: number;
}

type KmsEntry = EncryptionProvider & { readonly kind: "kms" };

/** Resources that are there in every cluster and often hold what should not be in clear. */
const TELLTALE = ["configmaps"];
/** Stands for the custom resources, which only `*.*` covers all of. */
const ANY_OTHER = "*.*";

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
      fail("no provider is kms: this plugin encrypts nothing; add a kms provider to the rule for secrets"),
    ];
  }
  const twice = entries.filter((entry, at) => entries.findIndex(sameEndpoint(entry)) < at);
  const advice = twice.map(({ name, endpoint }) =>
    warn(
      `kms provider ${name} is the second one on ${endpoint}: each has its own DEK seeds and connection; name one provider for all resources in one rule`,
    ),
  );
  if (socket === undefined) return advice;
  const ours = endpointOf(socket);
  const others = entries.filter(({ endpoint }) => !leadsTo(endpoint, socket));
  const elsewhere = others.map(({ name, endpoint }) => `${name} at ${endpoint}`).join(", ");
  if (others.length === entries.length) {
    return [
      ...advice,
      warn(`no kms provider is at ${ours}, where this plugin serves, but ${elsewhere}; correct endpoint`),
    ];
  }
  return [
    ...advice,
    ok(`the plugin serves at ${ours}${elsewhere === "" ? "" : `; elsewhere: ${elsewhere}`}`),
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

function endpointOf({ path, abstract }: SocketAddress): string {
  return abstract ? `unix:///@${path}` : `unix://${path}`;
}

function adviseOnEntry(entry: KmsEntry, { p99Ms, requestTimeoutMs }: EncryptionFacts): Advice[] {
  const { name, apiVersion, timeoutMs } = entry;
  const advice: Advice[] = [];
  if (apiVersion === "v1") {
    advice.push(
      fail(
        `kms provider ${name} is v1, which is what no apiVersion means, is off in kube-apiserver since 1.29 and not served by this plugin; add apiVersion: v2`,
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
        `${timeout} ends before the plugin's own (hsm.requestTimeout ${formatDuration(requestTimeoutMs)}); set timeout: 3s`,
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
        `${subject}: identity comes first, so they are written in clear; once every API server has kms in its list, put kms first`,
      ),
    ];
  }
  const advice =
    writer === undefined || writer.kind === "kms"
      ? []
      : [warn(`${subject}: ${writer.kind} writes, with a key in this file; put kms first to use the HSM`)];
  if (!providers.some(({ kind }) => kind === "identity")) return advice;
  return [...advice, adviseOnIdentity(subject, resources, stored)];
}

function adviseOnIdentity(
  subject: string,
  resources: readonly string[],
  stored: EncryptionFacts["stored"],
): Advice {
  const left = `${subject}: identity is left in place`;
  if (stored === undefined) {
    return ok(
      `${left}: fine until all is rewritten; what 'etcd usage --report' writes, given as --usage-report, shows when`,
    );
  }
  const clear = stored.filter(({ resource, prefix }) => prefix === "" && names(resources, resource));
  const objects = clear.reduce((sum, one) => sum + one.objects, 0);
  if (objects > 0) {
    return ok(`${left} and needed: ${objects} objects are in clear; rewrite them by 'etcd migrate'`);
  }
  return warn(
    `${left} and nothing is in clear any more: whoever can write to etcd could plant objects; remove it`,
  );
}

/** Whether a rule's list names a resource, by its name or by a wildcard. */
function names(list: readonly string[], resource: string): boolean {
  return providersOfResource({ rules: [{ resources: list, providers: [] }] }, resource) !== undefined;
}

function adviseOnCoverage(configuration: EncryptionConfiguration): Advice[] {
  const isEncrypted = (resource: string): boolean =>
    providersOfResource(configuration, resource)?.some(({ kind }) => kind === "kms") === true;
  const advice: Advice[] = [];
  if (!isEncrypted("secrets")) {
    advice.push(warn("secrets are left out: no kms provider has them; add them to the kms rule"));
  }
  const others = [...TELLTALE, ANY_OTHER].filter((resource) => !isEncrypted(resource));
  if (others.length > 0) {
    advice.push(
      warn(
        `left out: ${others.join(" and ").replace(ANY_OTHER, "custom resources")}; if they hold secrets, add them, or a last rule for "*.*"`,
      ),
    );
  }
  return advice;
}

/** What nobody could read any more, such as objects under a provider that has been renamed. */
function adviseOnStored(configuration: EncryptionConfiguration, stored: readonly StoredUnder[]): Advice[] {
  return stored.flatMap(({ resource, prefix, objects }) => {
    const providers = providersOfResource(configuration, resource) ?? [{ kind: "identity" } as const];
    if (providers.some((one) => readPrefixes(one).includes(prefix))) return [];
    const under = prefix === "" ? "in clear" : `under ${prefix}`;
    const wanted = providers.map((one) => storedPrefix(one) || "identity").join(", ");
    return [
      fail(
        `${objects} objects of ${resource} are stored ${under}, which no provider here reads (${wanted}); keep the name they were written under`,
      ),
    ];
  });
}

const ok = (text: string): Advice => ({ verdict: "ok", text });
const warn = (text: string): Advice => ({ verdict: "warn", text });
const fail = (text: string): Advice => ({ verdict: "fail", text });

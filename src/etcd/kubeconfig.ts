// Finds the API server and the user in kubeconfigs, as kubectl does (client-go, tools/clientcmd). If $KUBECONFIG lists
// several files, the first that defines a name or a current-context takes precedence, and a path is relative to the
// file that contains it.
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { parse } from "yaml";
import type { z } from "zod";
import { KmsError } from "../errors.js";
import { readAtMost } from "../files/read-into.js";
import {
  faultOfCluster,
  faultOfUser,
  fieldsOf,
  kubeCluster,
  kubeconfigDocument,
  kubeContext,
  kubeUser,
  type KubeCluster,
  type KubeconfigDocument,
  type KubeUser,
} from "./kubeconfig-schema.js";

export interface KubeAccess {
  /** If omitted, as for kubectl: $KUBECONFIG, ~/.kube/config, or the pod's service account. */
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
}

export interface KubeTarget {
  readonly cluster: KubeCluster;
  readonly user: KubeUser;
}

/** A part of a kubeconfig, and the file that contains it. */
interface Part {
  readonly value: unknown;
  readonly file: string;
}

interface Merged {
  currentContext: string;
  readonly clusters: Map<string, Part>;
  readonly users: Map<string, Part>;
  readonly contexts: Map<string, Part>;
}

/** A kubeconfig may list many clusters, each with its certificates. */
const MAX_BYTES = 16 << 20;
const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

/**
 * Returns the cluster and the user to use.
 * @throws KmsError CONFIG_INVALID, which repeats only names from a kubeconfig
 */
export function readKubeTarget(access: KubeAccess, env: NodeJS.ProcessEnv): KubeTarget {
  const files = filesOf(access, env);
  const merged = merge(files, access.kubeconfig !== undefined);
  const isEmpty = merged.contexts.size + merged.clusters.size + merged.users.size === 0;
  if (!isEmpty || access.kubeconfig !== undefined) {
    return targetOf(merged, access.context ?? merged.currentContext);
  }
  const pod = serviceAccount(env);
  if (pod !== undefined) return pod;
  throw invalid(`there is no kubeconfig in ${files.join(" or ")}; give --kubeconfig`);
}

function filesOf({ kubeconfig }: KubeAccess, env: NodeJS.ProcessEnv): string[] {
  if (kubeconfig !== undefined) return [kubeconfig];
  const list = env["KUBECONFIG"] ?? "";
  if (list === "") return [join(env["HOME"] ?? homedir(), ".kube", "config")];
  return [...new Set(list.split(delimiter))].filter((file) => file !== "");
}

/** @param isNamed whether a missing file is an error */
function merge(files: readonly string[], isNamed: boolean): Merged {
  const merged: Merged = { currentContext: "", clusters: new Map(), users: new Map(), contexts: new Map() };
  for (const file of files) {
    const content = readDocument(file, isNamed);
    if (content === undefined) continue;
    if (merged.currentContext === "") merged.currentContext = content["current-context"] ?? "";
    const { clusters, users, contexts } = content;
    add(file, "cluster", merged.clusters, clusters?.map((one) => [one.name, one.cluster]) ?? []);
    add(file, "user", merged.users, users?.map((one) => [one.name, one.user]) ?? []);
    add(file, "context", merged.contexts, contexts?.map((one) => [one.name, one.context]) ?? []);
  }
  return merged;
}

function readDocument(file: string, isNamed: boolean): KubeconfigDocument | undefined {
  let content: unknown;
  try {
    // YAML 1.1, as Kubernetes reads it: yes and no are booleans.
    content = parse(readAtMost(file, MAX_BYTES).toString(), { version: "1.1", logLevel: "error" }) ?? {};
  } catch (error) {
    if (error instanceof KmsError) throw error;
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" && !isNamed) return undefined;
    throw invalid(
      `${file}: ${syscall === undefined ? "is not YAML" : `cannot be read (${String(code)})`}`,
      error,
    );
  }
  const parsed = kubeconfigDocument.safeParse(content);
  if (parsed.success) return parsed.data;
  throw invalid(`${file}: is not a kubeconfig; wrong: ${fieldsOf(parsed.error)}`, parsed.error);
}

function add(
  file: string,
  kind: string,
  known: Map<string, Part>,
  entries: readonly (readonly [name: string, value: unknown])[],
): void {
  const own = new Set<string>();
  for (const [name, value] of entries) {
    if (own.has(name)) throw invalid(`${file}: has the ${kind} ${JSON.stringify(name)} twice`);
    own.add(name);
    if (!known.has(name)) known.set(name, { value, file });
  }
}

function targetOf({ contexts, clusters, users }: Merged, name: string): KubeTarget {
  if (name === "") throw invalid("the kubeconfig has no current-context; give --context");
  const { value: context } = find("context", name, contexts, kubeContext);
  if (context.cluster === "") {
    throw invalid(`the kubeconfig's context ${JSON.stringify(name)} has no cluster`);
  }
  const cluster = find("cluster", context.cluster, clusters, kubeCluster);
  refuseFault("cluster", context.cluster, faultOfCluster(cluster.value));
  const target = withPaths(cluster.value, cluster.file, ["certificate-authority"]);
  // A context without a user is anonymous, as for kubectl proxy.
  if (context.user === "") return { cluster: target, user: {} };
  const user = find("user", context.user, users, kubeUser);
  refuseFault("user", context.user, faultOfUser(user.value));
  return { cluster: target, user: callerOf(user.value, user.file) };
}

function callerOf(user: KubeUser, file: string): KubeUser {
  const caller = withPaths(user, file, ["client-certificate", "client-key", "tokenFile"]);
  // A command without a slash is looked up in PATH.
  if (!caller.exec?.command.includes("/")) return caller;
  return { ...caller, exec: withPaths(caller.exec, file, ["command"]) };
}

function find<T>(
  kind: string,
  name: string,
  parts: ReadonlyMap<string, Part>,
  schema: z.ZodType<T>,
): { readonly value: T; readonly file: string } {
  const part = parts.get(name);
  if (part === undefined) throw invalid(`the kubeconfig has no ${kind} ${JSON.stringify(name)}`);
  const parsed = schema.safeParse(part.value ?? {});
  if (parsed.success) return { value: parsed.data, file: part.file };
  const where = `${part.file}: ${kind} ${JSON.stringify(name)}`;
  throw invalid(`${where}: wrong or missing: ${fieldsOf(parsed.error)}`, parsed.error);
}

function refuseFault(kind: string, name: string, fault: string | undefined): void {
  if (fault !== undefined) throw invalid(`the kubeconfig's ${kind} ${JSON.stringify(name)} ${fault}`);
}

function withPaths<T extends object>(part: T, file: string, names: readonly (keyof T)[]): T {
  const absolute = { ...part };
  for (const name of names) {
    const path = part[name];
    if (typeof path === "string" && path !== "") {
      Object.assign(absolute, { [name]: resolve(dirname(file), path) });
    }
  }
  return absolute;
}

/** Returns the cluster and the service account of the pod; undefined outside of a pod. */
function serviceAccount(env: NodeJS.ProcessEnv): KubeTarget | undefined {
  const host = env["KUBERNETES_SERVICE_HOST"] ?? "";
  const port = env["KUBERNETES_SERVICE_PORT"] ?? "";
  const tokenFile = `${SERVICE_ACCOUNT}/token`;
  if (host === "" || port === "" || !existsSync(tokenFile)) return undefined;
  const server = `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
  return { cluster: { server, "certificate-authority": `${SERVICE_ACCOUNT}/ca.crt` }, user: { tokenFile } };
}

function invalid(message: string, cause?: unknown): KmsError {
  return new KmsError("CONFIG_INVALID", message, cause);
}

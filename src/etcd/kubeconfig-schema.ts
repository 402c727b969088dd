// The schema of a kubeconfig (client-go, tools/clientcmd/api/v1) and what kubectl refuses beyond it. No message repeats
// a value, since any value may be a credential.
import { z } from "zod";

const text = z.string().optional();
/** Decodes as Go does: line breaks are ignored. */
const base64 = z
  .string()
  .transform((value) => value.replace(/[\r\n]/g, ""))
  .pipe(z.base64())
  .optional();

export const kubeCluster = z.object({
  server: z.string().min(1),
  "certificate-authority": text,
  "certificate-authority-data": base64,
  "insecure-skip-tls-verify": z.boolean().optional(),
  "tls-server-name": text,
  "proxy-url": text,
  extensions: z.array(z.object({ name: z.string(), extension: z.unknown().optional() })).nullish(),
});

const kubeExec = z.object({
  apiVersion: z.enum(["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"]),
  command: z.string().min(1),
  args: z.array(z.string()).nullish(),
  env: z.array(z.object({ name: z.string().min(1), value: z.string().default("") })).nullish(),
  interactiveMode: z.enum(["Never", "IfAvailable", "Always"]).optional(),
  provideClusterInfo: z.boolean().optional(),
  installHint: text,
});

export const kubeUser = z.object({
  "client-certificate": text,
  "client-certificate-data": base64,
  "client-key": text,
  "client-key-data": base64,
  token: text,
  tokenFile: text,
  as: text,
  "as-uid": text,
  "as-groups": z.array(z.string()).nullish(),
  "as-user-extra": z.record(z.string(), z.array(z.string())).nullish(),
  username: text,
  password: text,
  "auth-provider": z
    .object({ name: z.string(), config: z.record(z.string(), z.string()).nullish() })
    .nullish(),
  exec: kubeExec.nullish(),
});

export const kubeContext = z.object({ cluster: z.string().default(""), user: z.string().default("") });

const named = z.object({ name: z.string() });

export const kubeconfigDocument = z.object({
  "current-context": z.string().nullish(),
  clusters: z.array(named.extend({ cluster: z.unknown().optional() })).nullish(),
  users: z.array(named.extend({ user: z.unknown().optional() })).nullish(),
  contexts: z.array(named.extend({ context: z.unknown().optional() })).nullish(),
});

export type KubeconfigDocument = z.infer<typeof kubeconfigDocument>;
export type KubeCluster = z.infer<typeof kubeCluster>;
export type KubeUser = z.infer<typeof kubeUser>;
export type KubeExec = z.infer<typeof kubeExec>;

/** Returns the paths of the faulty fields. */
export function fieldsOf({ issues }: z.ZodError): string {
  return issues.map(({ path }) => path.join(".") || "the document").join(", ");
}

/** Returns why kubectl refuses a cluster; undefined if it does not. */
export function faultOfCluster(cluster: KubeCluster): string | undefined {
  const file = cluster["certificate-authority"] ?? "";
  const data = cluster["certificate-authority-data"] ?? "";
  if (file !== "" && data !== "") return bothOf("certificate-authority-data", "certificate-authority");
  if (cluster["insecure-skip-tls-verify"] === true && file + data !== "") {
    return "has a certificate authority and insecure-skip-tls-verify; remove one of them";
  }
  const proxy = cluster["proxy-url"] ?? "";
  if (proxy !== "" && !(URL.canParse(proxy) && /^(https?|socks5):$/.test(new URL(proxy).protocol))) {
    return "has a proxy-url that is not an http, https or socks5 URL";
  }
  return undefined;
}

/** Returns why kubectl refuses a user; undefined if it does not. */
export function faultOfUser(user: KubeUser): string | undefined {
  const has = (name: keyof KubeUser): boolean => Boolean(user[name]);
  for (const name of ["client-certificate", "client-key"] as const) {
    if (has(name) && has(`${name}-data`)) return bothOf(`${name}-data`, name);
  }
  const hasCertificate = has("client-certificate") || has("client-certificate-data");
  if (hasCertificate && !has("client-key") && !has("client-key-data")) {
    return "has a client-certificate without client-key";
  }
  if (has("token") && (has("username") || has("password"))) return bothOf("token", "username");
  if (has("exec") && has("auth-provider")) return bothOf("exec", "auth-provider");
  const { exec, "auth-provider": provider } = user;
  if (exec && exec.apiVersion.endsWith("/v1") && exec.interactiveMode === undefined) {
    return "has exec without interactiveMode, which its apiVersion requires: Never, IfAvailable or Always";
  }
  if (provider && provider.name !== "oidc") {
    return `has the auth-provider ${JSON.stringify(provider.name)}, which kubectl no longer supports; use an exec plugin`;
  }
  const impersonates = has("as-uid") || (user["as-groups"]?.length ?? 0) > 0 || has("as-user-extra");
  return impersonates && !has("as") ? "has as-uid, as-groups or as-user-extra without as" : undefined;
}

function bothOf(one: string, other: string): string {
  return `has ${one} and ${other}; remove one of them`;
}

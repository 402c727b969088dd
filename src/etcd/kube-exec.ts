// Credentials from a kubeconfig's exec plugin, run as kubectl runs it (client-go, plugin/pkg/client/auth/exec). The
// plugin receives the cluster, and whether it may prompt, in KUBERNETES_EXEC_INFO. It has the terminal as standard
// input only if it may prompt, and always writes to our standard error.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { z } from "zod";
import { KmsError } from "../errors.js";
import { codeOf } from "../files/file-error.js";
import { readAtMost } from "../files/read-into.js";
import { fieldsOf, type KubeCluster, type KubeExec } from "./kubeconfig-schema.js";

export interface ExecCredential {
  readonly token: string | undefined;
  /** PEM. */
  readonly certificate: string | undefined;
  readonly key: string | undefined;
  /** ms since the epoch; Infinity if the plugin gives no expiry. */
  readonly expiresAt: number;
}

const MAX_ANSWER_BYTES = 1 << 20;
const MAX_AUTHORITY_BYTES = 1 << 20;
const CONFIG_EXTENSION = "client.authentication.k8s.io/exec";

const answerSchema = z.object({
  apiVersion: z.string(),
  kind: z.literal("ExecCredential"),
  status: z.object({
    token: z.string().optional(),
    clientCertificateData: z.string().optional(),
    clientKeyData: z.string().optional(),
    expirationTimestamp: z.iso.datetime({ offset: true }).nullish(),
  }),
});

/**
 * Runs the plugin once and returns its credential. There is no time limit, since a user may be typing.
 * @throws KmsError CONFIG_INVALID if the plugin cannot be run, fails, or does not return a credential
 */
export async function runExecPlugin(exec: KubeExec, cluster: KubeCluster): Promise<ExecCredential> {
  const interactive = isInteractive(exec);
  const { command, args, env, apiVersion } = exec;
  const spec = { ...(exec.provideClusterInfo === true && { cluster: clusterInfo(cluster) }), interactive };
  const child = spawn(command, args ?? [], {
    stdio: [interactive ? "inherit" : "ignore", "pipe", "inherit"],
    env: {
      ...process.env,
      ...Object.fromEntries((env ?? []).map(({ name, value }) => [name, value])),
      KUBERNETES_EXEC_INFO: JSON.stringify({ kind: "ExecCredential", apiVersion, spec }),
    },
  });
  const chunks: Buffer[] = [];
  let bytes = 0;
  child.stdout.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= MAX_ANSWER_BYTES) chunks.push(chunk);
  });
  try {
    const [code, signal] = (await once(child, "close")) as [number | null, string | null];
    if (code !== 0) {
      throw refused(command, `failed with ${code === null ? String(signal) : `exit code ${code}`}`);
    }
  } catch (error) {
    if (error instanceof KmsError) throw error;
    const reason = codeOf(error);
    const hint = exec.installHint === undefined ? "" : `; ${exec.installHint}`;
    throw refused(command, `cannot be run (${reason})${hint}`, error);
  }
  return credentialOf(exec, Buffer.concat(chunks).toString());
}

function isInteractive({ interactiveMode = "IfAvailable", command }: KubeExec): boolean {
  if (interactiveMode === "Never") return false;
  if (process.stdin.isTTY) return true;
  if (interactiveMode === "IfAvailable") return false;
  throw refused(
    command,
    "must prompt (interactiveMode Always), but standard input is not a terminal; run the command on a terminal",
  );
}

function clusterInfo(cluster: KubeCluster): object {
  const { server, extensions } = cluster;
  const config = extensions?.find(({ name }) => name === CONFIG_EXTENSION)?.extension;
  const name = cluster["tls-server-name"] ?? "";
  const authority = authorityOf(cluster);
  const proxy = cluster["proxy-url"] ?? "";
  return {
    server,
    ...(name !== "" && { "tls-server-name": name }),
    ...(cluster["insecure-skip-tls-verify"] === true && { "insecure-skip-tls-verify": true }),
    ...(authority !== "" && { "certificate-authority-data": authority }),
    ...(proxy !== "" && { "proxy-url": proxy }),
    ...(config !== undefined && { config }),
  };
}

function authorityOf(cluster: KubeCluster): string {
  const file = cluster["certificate-authority"] ?? "";
  if (file === "") return cluster["certificate-authority-data"] ?? "";
  try {
    return readAtMost(file, MAX_AUTHORITY_BYTES).toString("base64");
  } catch (error) {
    if (error instanceof KmsError) throw error;
    throw new KmsError("CONFIG_INVALID", `the kubeconfig's ${file} cannot be read (${codeOf(error)})`, error);
  }
}

function credentialOf({ command, apiVersion }: KubeExec, answer: string): ExecCredential {
  let parsed: z.infer<typeof answerSchema>;
  try {
    parsed = answerSchema.parse(JSON.parse(answer));
  } catch (error) {
    // The output may contain a credential, so the message names only the faulty fields.
    const fields =
      error instanceof z.ZodError ? `wrong or missing: ${fieldsOf(error)}` : "the output is not JSON";
    throw refused(command, `did not return an ExecCredential (${fields})`);
  }
  if (parsed.apiVersion !== apiVersion) {
    throw refused(command, `returned a different apiVersion than the kubeconfig's, ${apiVersion}`);
  }
  const { token, clientCertificateData, clientKeyData, expirationTimestamp } = parsed.status;
  const [certificate, key] = [clientCertificateData || undefined, clientKeyData || undefined];
  if ((certificate === undefined) !== (key === undefined)) {
    throw refused(command, "returned only one of certificate and key");
  }
  if (!token && certificate === undefined) {
    throw refused(command, "returned neither a token nor a certificate");
  }
  const expiresAt = expirationTimestamp ? Date.parse(expirationTimestamp) : Infinity;
  return { token: token || undefined, certificate, key, expiresAt };
}

function refused(command: string, what: string, cause?: unknown): KmsError {
  return new KmsError("CONFIG_INVALID", `the kubeconfig's exec plugin ${command} ${what}`, cause);
}

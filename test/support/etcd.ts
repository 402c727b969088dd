// A real etcd with one member on loopback: plain HTTP to prepare its content, and HTTPS with client certificates for
// the code under test. One certificate is the CA's, the server's and the client's.

import { rmSync } from "node:fs";
import { join } from "node:path";
import { EtcdStore } from "../e2e/harness/etcd-store.js";
import { ManagedProcess } from "../e2e/harness/process.js";
import { makeCertificate } from "./certificate.js";
import { freePort } from "./free-port.js";
import { makeFolder } from "./token.js";
import { waitFor } from "./wait.js";

export interface TestEtcd {
  readonly endpoint: string;
  /** Requires a client certificate. */
  readonly tlsEndpoint: string;
  /** The TLS endpoint at an address that its certificate does not contain. */
  readonly misnamedEndpoint: string;
  readonly peer: string;
  readonly certificate: string;
  readonly privateKey: string;
  readonly store: EtcdStore;
  remove(): Promise<void>;
}

/**
 * Starts etcd.
 * @param program the etcd to run
 * @param options in addition to those that every test needs
 */
export async function startEtcd(program = "etcd", options: readonly string[] = []): Promise<TestEtcd> {
  const folder = makeFolder("etcd");
  const [certificate, privateKey] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  makeCertificate(certificate, privateKey);
  const [plain, tls, peer] = [await freePort(), await freePort(), await freePort()];
  const endpoint = `http://127.0.0.1:${plain}`;
  const peerUrl = `http://127.0.0.1:${peer}`;
  const tlsEndpoint = `https://127.0.0.1:${tls}`;
  const misnamedEndpoint = `https://127.0.0.2:${tls}`;
  const process = ManagedProcess.start({
    name: "etcd",
    command: program,
    args: [
      `--data-dir=${join(folder, "data")}`,
      `--listen-client-urls=${endpoint},${tlsEndpoint},${misnamedEndpoint}`,
      `--advertise-client-urls=${endpoint}`,
      `--listen-peer-urls=${peerUrl}`,
      `--initial-advertise-peer-urls=${peerUrl}`,
      `--initial-cluster=default=${peerUrl}`,
      `--cert-file=${certificate}`,
      `--key-file=${privateKey}`,
      `--trusted-ca-file=${certificate}`,
      "--client-cert-auth",
      "--logger=zap",
      "--log-level=warn",
      ...options,
    ],
    logFile: join(folder, "etcd.log"),
  });
  await waitFor(
    async () => {
      if (process.ending !== undefined) {
        throw new Error(`etcd ended (${process.ending}); is it installed? ${process.logTail()}`);
      }
      return (await fetch(`${endpoint}/health`)).ok;
    },
    { what: "etcd (apt-get install etcd-server, or run scripts/test)", timeoutMs: 30_000 },
  );
  return {
    endpoint,
    tlsEndpoint,
    misnamedEndpoint,
    peer: peerUrl,
    certificate,
    privateKey,
    store: new EtcdStore(endpoint),
    remove: async () => {
      await process.kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Starts a second member that follows the first and cannot vote: it refuses linearizable reads. */
export async function startLearner(
  of: TestEtcd,
): Promise<{ readonly endpoint: string; remove(): Promise<void> }> {
  const folder = makeFolder("etcd-learner");
  const [endpoint, peer] = [await freePort(), await freePort()].map((port) => `http://127.0.0.1:${port}`);
  const added = await fetch(`${of.endpoint}/v3/cluster/member/add`, {
    method: "POST",
    body: JSON.stringify({ peerURLs: [peer], isLearner: true }),
  });
  if (!added.ok) throw new Error(`etcd adds no learner: ${await added.text()}`);
  const process = ManagedProcess.start({
    name: "learner",
    command: "etcd",
    args: [
      "--name=learner",
      `--data-dir=${join(folder, "data")}`,
      `--listen-client-urls=${endpoint ?? ""}`,
      `--advertise-client-urls=${endpoint ?? ""}`,
      `--listen-peer-urls=${peer ?? ""}`,
      `--initial-advertise-peer-urls=${peer ?? ""}`,
      `--initial-cluster=default=${of.peer},learner=${peer ?? ""}`,
      "--initial-cluster-state=existing",
      "--logger=zap",
      "--log-level=warn",
    ],
    logFile: join(folder, "etcd.log"),
  });
  await waitFor(
    async () => {
      if (process.ending !== undefined) throw new Error(`the learner ended: ${process.logTail()}`);
      const status = await fetch(`${endpoint ?? ""}/v3/maintenance/status`, { method: "POST", body: "{}" });
      return status.ok && ((await status.json()) as { isLearner?: boolean }).isLearner === true;
    },
    { what: "a learner", timeoutMs: 30_000 },
  );
  return {
    endpoint: endpoint ?? "",
    remove: async () => {
      await process.kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

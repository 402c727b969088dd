// A real etcd with one member on loopback: plain HTTP for whoever prepares it, and HTTPS with client certificates
// for whoever is tested with those. One certificate is the CA's, the server's and the client's.

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
  /** Wants a certificate from its clients. */
  readonly tlsEndpoint: string;
  /** The same at another address, for which the certificate is not. */
  readonly misnamedEndpoint: string;
  readonly certificate: string;
  readonly privateKey: string;
  readonly store: EtcdStore;
  remove(): Promise<void>;
}

/** @param program etcd itself, and options beside those that a test needs */
export async function startEtcd(program = "etcd", options: readonly string[] = []): Promise<TestEtcd> {
  const folder = makeFolder("etcd");
  const [certificate, privateKey] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  makeCertificate(certificate, privateKey);
  const [plain, tls, peer] = [await freePort(), await freePort(), await freePort()];
  const endpoint = `http://127.0.0.1:${String(plain)}`;
  const tlsEndpoint = `https://127.0.0.1:${String(tls)}`;
  const misnamedEndpoint = `https://127.0.0.2:${String(tls)}`;
  const process = ManagedProcess.start({
    name: "etcd",
    command: program,
    args: [
      `--data-dir=${join(folder, "data")}`,
      `--listen-client-urls=${endpoint},${tlsEndpoint},${misnamedEndpoint}`,
      `--advertise-client-urls=${endpoint}`,
      `--listen-peer-urls=http://127.0.0.1:${String(peer)}`,
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
      if (process.ending !== undefined)
        throw new Error(`etcd ended (${process.ending}); is it installed? ${process.logTail()}`);
      return (await fetch(`${endpoint}/health`)).ok;
    },
    { what: "etcd (apt-get install etcd-server, or run scripts/test)", timeoutMs: 30_000 },
  );
  return {
    endpoint,
    tlsEndpoint,
    misnamedEndpoint,
    certificate,
    privateKey,
    store: new EtcdStore(endpoint),
    remove: async () => {
      await process.kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

// A real kube-apiserver on loopback. It creates its own serving certificate, which is the only one that its client
// trusts; the client is an administrator by a static token. Several may share one etcd; each has its own
// EncryptionConfiguration. A restart keeps port, files and log.

import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../../support/free-port.js";
import { writeEncryptionConfiguration, type EncryptionRule } from "./encryption-configuration.js";
import type { Etcd } from "./etcd.js";
import { KubeClient, type HttpAnswer } from "./kube-client.js";
import { ManagedProcess } from "./process.js";
import { Metrics } from "./prometheus-text.js";
import { until } from "./wait.js";

export interface KubeApiserverOptions {
  readonly name: string;
  /** The folder that contains the kube-apiserver binary. */
  readonly binaries: string;
  /** Created if missing; contains certificate, configuration and log. */
  readonly folder: string;
  readonly etcd: Etcd;
  /** A PEM private key, the same for all API servers over one etcd. */
  readonly serviceAccountKeyFile: string;
  /** Without rules there is no EncryptionConfiguration, as in a cluster that never had one. */
  readonly encryption?: readonly EncryptionRule[] | undefined;
  /** Whether to reload the EncryptionConfiguration without a restart. The server checks the file once a minute. */
  readonly reloadEncryption?: boolean | undefined;
  readonly extraArgs?: readonly string[] | undefined;
}

export class KubeApiserver {
  readonly name: string;
  readonly url: string;
  readonly #options: KubeApiserverOptions;
  readonly #port: number;
  readonly #token = randomBytes(16).toString("hex");
  #encrypted: boolean;
  #client: KubeClient | undefined;
  #process: ManagedProcess | undefined;

  private constructor(options: KubeApiserverOptions, port: number) {
    this.name = options.name;
    this.url = `https://127.0.0.1:${port}`;
    this.#options = options;
    this.#port = port;
    this.#encrypted = options.encryption !== undefined;
  }

  /** Writes its files and chooses its port, but starts nothing. */
  static async create(options: KubeApiserverOptions): Promise<KubeApiserver> {
    await mkdir(options.folder, { recursive: true });
    const server = new KubeApiserver(options, await freePort());
    await writeFile(server.#path("tokens.csv"), `${server.#token},e2e,e2e,system:masters\n`, {
      mode: 0o600,
    });
    if (options.encryption) await server.writeEncryption(options.encryption);
    return server;
  }

  /** Starts the process and returns at once. `ready` waits for it. */
  launch(): void {
    if (this.#process !== undefined && this.#process.ending === undefined) {
      throw new Error(`${this.name} is already running`);
    }
    this.#process = ManagedProcess.start({
      name: this.name,
      command: join(this.#options.binaries, "kube-apiserver"),
      args: this.#args(),
      logFile: this.#path("kube-apiserver.log"),
    });
  }

  /** Resolves when /readyz returns 200, with the time since the launch in ms. */
  async ready(timeoutMs = 90_000): Promise<number> {
    const process = this.#running();
    await until(`${this.name} is ready`, async () => (await this.get("/readyz")).status === 200, {
      timeoutMs,
      intervalMs: 100,
      process,
    });
    return Date.now() - process.startedAt;
  }

  /** Launches it and waits until it is ready. Returns the time that this took, in ms. */
  async start(timeoutMs?: number): Promise<number> {
    this.launch();
    return this.ready(timeoutMs);
  }

  async stop(): Promise<void> {
    this.#client?.close();
    this.#client = undefined;
    await this.#process?.stop(30_000);
  }

  async kill(): Promise<void> {
    this.#client?.close();
    this.#client = undefined;
    await this.#process?.kill();
  }

  /** Stops and starts it, and waits until it is ready. Returns the time from launch to ready, in ms. */
  async restart(timeoutMs?: number): Promise<number> {
    await this.stop();
    return this.start(timeoutMs);
  }

  /** Replaces the EncryptionConfiguration. A running server reads it only on reload or restart. */
  async writeEncryption(rules: readonly EncryptionRule[]): Promise<void> {
    await writeEncryptionConfiguration(this.#path("encryption.json"), rules);
    this.#encrypted = true;
  }

  /** The path of its EncryptionConfiguration, for commands that read it. */
  get encryptionFile(): string {
    return this.#path("encryption.json");
  }

  /** Writes the administrator's kubeconfig, for commands that take one, and returns its path. */
  async writeKubeconfig(): Promise<string> {
    const ca = readFileSync(this.#path("certs/apiserver.crt")).toString("base64");
    const named = { cluster: "e2e", user: "e2e" };
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "e2e", cluster: { server: this.url, "certificate-authority-data": ca } }],
      users: [{ name: "e2e", user: { token: this.#token } }],
      contexts: [{ name: "e2e", context: named }],
      "current-context": "e2e",
    };
    const path = this.#path("kubeconfig");
    await writeFile(path, JSON.stringify(config), { mode: 0o600 });
    return path;
  }

  /** The client, available once the server has written its certificate. Replaced after each stop. */
  get client(): KubeClient {
    if (this.#client === undefined) {
      const certificate = this.#path("certs/apiserver.crt");
      if (!existsSync(certificate)) throw new Error(`${this.name} has no certificate yet`);
      const ca = readFileSync(certificate, "utf8");
      this.#client = new KubeClient({ url: this.url, ca, token: this.#token });
    }
    return this.#client;
  }

  /** Sends a GET as the administrator: /readyz, /livez?verbose, /healthz/kms-providers, /version. */
  async get(path: string): Promise<HttpAnswer> {
    return this.client.get(path);
  }

  async metrics(): Promise<Metrics> {
    const { status, body } = await this.get("/metrics");
    if (status !== 200) throw new Error(`${this.name} /metrics: ${status} ${body}`);
    return new Metrics(body);
  }

  /** Returns how many calls of a KMS method it has made since its start, including failed calls. */
  async kmsCalls(method: "Status" | "Encrypt" | "Decrypt"): Promise<number> {
    return (await this.metrics()).sum("apiserver_envelope_encryption_kms_operations_latency_seconds_count", {
      method_name: `/v2.KeyManagementService/${method}`,
    });
  }

  /** Returns the release that it reports, such as v1.36.3. */
  async version(): Promise<string> {
    return (JSON.parse((await this.get("/version")).body) as { gitVersion: string }).gitVersion;
  }

  logTail(lines?: number): string {
    return this.#process?.logTail(lines) ?? "";
  }

  /** Returns the log of all its starts. */
  log(): string {
    return readFileSync(this.#path("kube-apiserver.log"), "utf8");
  }

  #running(): ManagedProcess {
    if (this.#process === undefined) throw new Error(`${this.name} was never launched`);
    return this.#process;
  }

  #path(name: string): string {
    return join(this.#options.folder, name);
  }

  #args(): string[] {
    const { etcd, serviceAccountKeyFile, reloadEncryption = false, extraArgs = [] } = this.#options;
    const encryption = [
      `--encryption-provider-config=${this.#path("encryption.json")}`,
      `--encryption-provider-config-automatic-reload=${String(reloadEncryption)}`,
    ];
    return [
      `--etcd-servers=${etcd.endpoint}`,
      "--bind-address=127.0.0.1",
      "--advertise-address=127.0.0.1",
      `--secure-port=${this.#port}`,
      `--cert-dir=${this.#path("certs")}`,
      `--token-auth-file=${this.#path("tokens.csv")}`,
      "--authorization-mode=RBAC",
      "--service-account-issuer=https://kubernetes.default.svc",
      `--service-account-key-file=${serviceAccountKeyFile}`,
      `--service-account-signing-key-file=${serviceAccountKeyFile}`,
      "--service-cluster-ip-range=10.96.0.0/16",
      // Without a controller manager no service accounts are created; and no Endpoints may point to loopback.
      "--disable-admission-plugins=ServiceAccount",
      "--endpoint-reconciler-type=none",
      "--profiling=false",
      ...(this.#encrypted ? encryption : []),
      ...extraArgs,
    ];
  }
}

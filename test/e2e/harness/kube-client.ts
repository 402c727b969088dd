// Requests to one kube-apiserver through @kubernetes/client-node, as an administrator. Keeps connections open: the
// package's own KubeConfig makes a new TLS connection for every request.

/* eslint-disable @typescript-eslint/no-unsafe-class-instance-assignment --
   the models of @kubernetes/client-node are classes, but its interface takes plain data */

import { Agent, request } from "node:https";
import {
  ApiextensionsV1Api,
  CoreV1Api,
  createConfiguration,
  CustomObjectsApi,
  ServerConfiguration,
} from "@kubernetes/client-node";
import { parallel } from "./parallel.js";

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

export interface KubeClientOptions {
  readonly url: string;
  /** The only trusted certificate authority, in PEM. */
  readonly ca: string;
  readonly token: string;
}

export class KubeClient {
  readonly core: CoreV1Api;
  readonly extensions: ApiextensionsV1Api;
  readonly custom: CustomObjectsApi;
  readonly #options: KubeClientOptions;
  readonly #agent: Agent;

  constructor(options: KubeClientOptions) {
    this.#options = options;
    const agent = new Agent({ ca: options.ca, keepAlive: true, maxSockets: 32 });
    this.#agent = agent;
    const configuration = createConfiguration({
      baseServer: new ServerConfiguration(options.url, {}),
      authMethods: {
        default: {
          getName: () => "token",
          applySecurityAuthentication: (request) => {
            request.setHeaderParam("Authorization", `Bearer ${options.token}`);
            request.setAgent(agent);
          },
        },
      },
    });
    this.core = new CoreV1Api(configuration);
    this.extensions = new ApiextensionsV1Api(configuration);
    this.custom = new CustomObjectsApi(configuration);
  }

  /** Sends a GET. Every status is an answer; throws only if the connection fails or is silent for 30 s. */
  get(path: string): Promise<HttpAnswer> {
    return this.#send("GET", path);
  }

  /** Sends a POST with a manifest in YAML, unlike `core` including the fields that its models do not know. */
  post(path: string, manifest: string): Promise<HttpAnswer> {
    return this.#send("POST", path, manifest);
  }

  #send(method: string, path: string, body?: string): Promise<HttpAnswer> {
    const headers = {
      Authorization: `Bearer ${this.#options.token}`,
      ...(body !== undefined && { "Content-Type": "application/yaml", Accept: "application/json" }),
    };
    return new Promise((resolve, reject) => {
      const options = { agent: this.#agent, method, headers, timeout: 30_000 };
      const sent = request(this.#options.url + path, options, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() });
        });
      });
      sent.on("timeout", () => sent.destroy(new Error(`${method} ${path}: no answer in 30 s`)));
      sent.on("error", reject);
      sent.end(body);
    });
  }

  async createNamespace(name: string): Promise<void> {
    await this.core.createNamespace({ body: { metadata: { name } } });
  }

  async createServiceAccount(namespace: string, name: string): Promise<void> {
    await this.core.createNamespacedServiceAccount({ namespace, body: { metadata: { name } } });
  }

  /** Creates an opaque Secret with one value under `value`. */
  async createSecret(namespace: string, name: string, value: string | Buffer): Promise<void> {
    const data = { value: Buffer.from(value).toString("base64") };
    await this.core.createNamespacedSecret({ namespace, body: { metadata: { name }, data } });
  }

  /** Writes a new value under `value` and replaces whatever the Secret holds. */
  async replaceSecret(namespace: string, name: string, value: string | Buffer): Promise<void> {
    const data = { value: Buffer.from(value).toString("base64") };
    await this.core.replaceNamespacedSecret({ namespace, name, body: { metadata: { name }, data } });
  }

  async readSecret(namespace: string, name: string): Promise<Buffer> {
    const secret = await this.core.readNamespacedSecret({ namespace, name });
    return Buffer.from(secret.data?.["value"] ?? "", "base64");
  }

  async createConfigMap(namespace: string, name: string, value: string): Promise<void> {
    const body = { metadata: { name }, data: { value } };
    await this.core.createNamespacedConfigMap({ namespace, body });
  }

  async readConfigMap(namespace: string, name: string): Promise<string> {
    return (await this.core.readNamespacedConfigMap({ namespace, name })).data?.["value"] ?? "";
  }

  /**
   * Reads every Secret and writes it back unchanged, as the Kubernetes documentation requires after a change of the
   * encryption (`kubectl get secrets -A -o json
   * kubectl replace -f -`). Returns the number of Secrets.
   */
  async rewriteSecrets(): Promise<number> {
    const { items } = await this.core.listSecretForAllNamespaces();
    await parallel(items.length, 8, async (index) => {
      const body = items[index] ?? {};
      const { name = "", namespace = "" } = body.metadata ?? {};
      await this.core.replaceNamespacedSecret({ namespace, name, body });
    });
    return items.length;
  }

  /** Closes its connections. */
  close(): void {
    this.#agent.destroy();
  }
}

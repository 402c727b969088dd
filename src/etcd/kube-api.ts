// Requests to the Kubernetes API as a kubeconfig says. The client package reads the kubeconfig and its credentials
// (files, exec plugins, OIDC); it is loaded only here and only when needed, since that costs most of a second. Its
// typed calls are not used: they drop fields that its own release does not know.
import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest, type RequestOptions } from "node:https";
import type { KubeConfig } from "@kubernetes/client-node";
import { KmsError } from "../errors.js";

export interface KubeAccess {
  /** Without it, as kubectl: $KUBECONFIG, ~/.kube/config, or the service account of the pod. */
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
}

export interface KubeRequest {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  readonly path: string;
  readonly accept?: string;
  readonly body?: { readonly type: string; readonly json: object };
}

export interface KubeAnswer {
  readonly status: number;
  /** The caller zeroes it where it may hold what nobody else should see. */
  readonly body: Buffer;
  /** What the API server asks to wait, for 429 and 503. */
  readonly retryAfterMs: number | undefined;
}

const SILENCE_MS = 60_000;
const UNAUTHORIZED = 401;

export class KubeApi {
  readonly server: string;
  readonly #config: KubeConfig;
  #options: Promise<RequestOptions> | undefined;

  private constructor(config: KubeConfig, server: string) {
    this.#config = config;
    this.server = server;
  }

  /** Asks nothing yet. @throws KmsError CONFIG_INVALID */
  static async connect({ kubeconfig, context }: KubeAccess): Promise<KubeApi> {
    const { KubeConfig } = await import("@kubernetes/client-node");
    const config = new KubeConfig();
    try {
      if (kubeconfig === undefined) config.loadFromDefault();
      else config.loadFromFile(kubeconfig);
      if (context !== undefined) config.setCurrentContext(context);
    } catch (error) {
      throw new KmsError("CONFIG_INVALID", "--kubeconfig: cannot be read as a kubeconfig", error);
    }
    const server = config.getCurrentCluster()?.server.replace(/\/+$/, "");
    if (server !== undefined) return new KubeApi(config, server);
    const which = context === undefined ? "its current context" : `the context ${context}`;
    throw new KmsError(
      "CONFIG_INVALID",
      `the kubeconfig has no cluster for ${which}; give --kubeconfig and --context`,
    );
  }

  /** Every status is an answer. @throws KmsError PEER_UNREACHABLE */
  async request(request: KubeRequest): Promise<KubeAnswer> {
    const answer = await this.#send(request);
    if (answer.status !== UNAUTHORIZED) return answer;
    // A credential that has run out is had anew; one that is refused again is the answer.
    this.#options = undefined;
    return this.#send(request);
  }

  /** @throws KmsError PEER_UNREACHABLE for any status but 2xx */
  async json(request: KubeRequest): Promise<unknown> {
    const { status, body } = await this.request(request);
    if (status >= 200 && status < 300) return JSON.parse(body.toString());
    throw new KmsError(
      "PEER_UNREACHABLE",
      `${request.method} ${request.path}: ${describeRefusal(status, body)}`,
    );
  }

  /** Ends its connections. */
  async close(): Promise<void> {
    const { agent } = (await this.#options?.catch(() => undefined)) ?? {};
    if (typeof agent === "object") agent.destroy();
  }

  async #send({ method, path, accept = "application/json", body }: KubeRequest): Promise<KubeAnswer> {
    this.#options ??= this.#credentials();
    const options = await this.#options;
    const content = body && Buffer.from(JSON.stringify(body.json));
    const headers = {
      ...(options.headers as Record<string, string> | undefined),
      Accept: accept,
      "User-Agent": "kms-pkcs11",
      ...(body && content && { "Content-Type": body.type, "Content-Length": String(content.length) }),
    };
    return new Promise((resolve, reject) => {
      const send = this.server.startsWith("http:") ? httpRequest : httpsRequest;
      const sent = send(this.server + path, { ...options, method, headers, timeout: SILENCE_MS });
      const failed = (error: Error): void => {
        const code = (error as NodeJS.ErrnoException).code ?? error.message;
        const text = `kube-apiserver at ${this.server} does not answer: ${code}`;
        reject(new KmsError("PEER_UNREACHABLE", text, error));
      };
      sent.on("error", failed);
      sent.on("timeout", () => sent.destroy(new Error(`no answer in ${String(SILENCE_MS / 1000)} s`)));
      sent.on("response", (response) => {
        read(response).then(resolve, failed);
      });
      sent.end(content);
    });
  }

  /** Headers, certificates and an agent that keeps connections: the package's own makes one for each request. */
  async #credentials(): Promise<RequestOptions> {
    const options: RequestOptions = {};
    try {
      await this.#config.applyToHTTPSOptions(options);
    } catch (error) {
      const text = "the kubeconfig's credentials cannot be had; does kubectl work with it?";
      throw new KmsError("CONFIG_INVALID", text, error);
    }
    const { agent } = options;
    if (typeof agent === "object") Object.assign(agent, { keepAlive: true });
    return options;
  }
}

async function read(response: IncomingMessage): Promise<KubeAnswer> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const seconds = Number(response.headers["retry-after"]);
  return {
    status: response.statusCode ?? 0,
    body: Buffer.concat(chunks),
    retryAfterMs: Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : undefined,
  };
}

const INVALID = 422;
const MAX_REFUSAL = 300;

/** Why the API server refuses, by its Status; of what it finds invalid only the fields, since it repeats values. */
export function describeRefusal(status: number, body: Buffer): string {
  const { reason = "", message = "", details } = statusOf(body);
  const fields = details?.causes?.flatMap(({ field }) => field ?? []) ?? [];
  const text = status === INVALID ? `invalid: ${fields.join(", ")}` : message || reason;
  return `${String(status)} ${text}`.trim().slice(0, MAX_REFUSAL);
}

interface KubeStatus {
  readonly reason?: string;
  readonly message?: string;
  readonly details?: { readonly causes?: readonly { readonly field?: string }[] };
}

function statusOf(body: Buffer): KubeStatus {
  try {
    const parsed: unknown = JSON.parse(body.toString());
    return typeof parsed === "object" && parsed !== null ? parsed : {};
  } catch {
    return {};
  }
}

// Requests to the Kubernetes API with a kubeconfig, over the connections of kube-connections.ts.
import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { KmsError } from "../errors.js";
import { impersonationHeaders, KubeCredentials, type KubeCredential } from "./kube-credentials.js";
import { KubeConnections } from "./kube-connections.js";
import { proxyFromEnvironment } from "./kube-proxy.js";
import { describeRefusal } from "./kube-status.js";
import { readKubeTarget, type KubeAccess, type KubeTarget } from "./kubeconfig.js";

/** Values of `accept` for the metadata of an object, or of each object of a list. Its annotations may contain secrets. */
export const METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
export const METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

export interface KubeRequest {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  readonly path: string;
  readonly accept?: string;
  readonly body?: { readonly type: string; readonly json: object };
}

export interface KubeAnswer {
  readonly status: number;
  /** The caller zeroes it if it may contain secrets. */
  readonly body: Buffer;
  /** From the header Retry-After, which the API server sends with 429 and 503. */
  readonly retryAfterMs: number | undefined;
}

/** A connection that is silent for this long has failed. */
const SILENCE_MS = 60_000;
/** Far more than the API server returns for one object or for the list of its resources. */
const MAX_ANSWER_BYTES = 16 << 20;
const UNAUTHORIZED = 401;

/** For plain HTTP: like kubectl, this client sends no credentials over it. */
const NO_CREDENTIAL: KubeCredential = { authorization: undefined, certificate: undefined, key: undefined };

export class KubeApi {
  readonly server: string;
  readonly #target: KubeTarget;
  readonly #url: URL;
  readonly #proxy: string | undefined;
  readonly #credentials: KubeCredentials;
  readonly #connections: KubeConnections;

  private constructor(target: KubeTarget, env: NodeJS.ProcessEnv) {
    this.#target = target;
    this.#url = serverUrl(target.cluster.server);
    this.server = this.#url.href.replace(/\/+$/, "");
    this.#proxy = target.cluster["proxy-url"] || proxyFromEnvironment(this.#url, env);
    this.#credentials = new KubeCredentials(target);
    this.#connections = new KubeConnections({ server: this.server, proxy: this.#proxy, target });
  }

  /** Reads the kubeconfig; sends no request yet. @throws KmsError CONFIG_INVALID */
  static connect(access: KubeAccess, env: NodeJS.ProcessEnv = process.env): KubeApi {
    return new KubeApi(readKubeTarget(access, env), env);
  }

  /**
   * Sends a request and returns the answer, whatever its status. A 401 is repeated once with a fresh credential.
   * @throws KmsError PEER_UNREACHABLE; CONFIG_INVALID if the credentials cannot be used or a second 401 arrives
   */
  async request(request: KubeRequest): Promise<KubeAnswer> {
    const credential = await this.#credential();
    const answer = await this.#send(credential, request);
    if (answer.status !== UNAUTHORIZED) return answer;
    // The file or plugin may have a new credential.
    await this.#credentials.refuse(credential);
    this.#connections.renew();
    const second = await this.#send(await this.#credential(), request);
    if (second.status !== UNAUTHORIZED) return second;
    throw new KmsError(
      "CONFIG_INVALID",
      `kube-apiserver at ${this.server} refuses the kubeconfig's credentials: ${describeRefusal(UNAUTHORIZED, second.body)}`,
    );
  }

  /**
   * Sends a request and returns the parsed JSON body. @throws KmsError PEER_UNREACHABLE, which includes any status but 2xx
   */
  async json(request: KubeRequest): Promise<unknown> {
    const { status, body } = await this.request(request);
    const what = `${request.method} ${request.path}`;
    if (status < 200 || status >= 300) {
      throw new KmsError("PEER_UNREACHABLE", `${what}: ${describeRefusal(status, body)}`);
    }
    try {
      return JSON.parse(body.toString());
    } catch (error) {
      throw new KmsError("PEER_UNREACHABLE", `${what}: ${this.server} is not an API server`, error);
    }
  }

  /** Closes all connections. */
  close(): void {
    this.#connections.close();
  }

  #credential(): Promise<KubeCredential> {
    return this.#url.protocol === "https:" ? this.#credentials.get() : Promise.resolve(NO_CREDENTIAL);
  }

  async #send(
    credential: KubeCredential,
    { method, path, accept = "application/json", body }: KubeRequest,
  ): Promise<KubeAnswer> {
    const options = await this.#connections.optionsFor(credential);
    const content = body && Buffer.from(JSON.stringify(body.json));
    const headers = {
      ...(options.headers as Record<string, string> | undefined),
      ...(credential.authorization !== undefined && { Authorization: credential.authorization }),
      ...impersonationHeaders(this.#target.user),
      Accept: accept,
      "User-Agent": "kms-pkcs11",
      ...(body && content && { "Content-Type": body.type, "Content-Length": String(content.length) }),
    };
    return new Promise((resolve, reject) => {
      const send = this.#url.protocol === "http:" ? httpRequest : httpsRequest;
      const sent = send(this.server + path, { ...options, method, headers, timeout: SILENCE_MS });
      const failed = (error: Error): void => {
        reject(error instanceof KmsError ? error : this.#unreachable(error));
      };
      sent.on("error", failed);
      sent.on("timeout", () => sent.destroy(new Error(`no answer in ${SILENCE_MS / 1000} s`)));
      sent.on("response", (response) => {
        this.#read(response).then(resolve, failed);
      });
      sent.end(content);
    });
  }

  async #read(response: IncomingMessage): Promise<KubeAnswer> {
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > MAX_ANSWER_BYTES) {
        const text = `the answer of kube-apiserver at ${this.server} is longer than ${MAX_ANSWER_BYTES >> 20} MiB`;
        throw new KmsError("PEER_UNREACHABLE", text);
      }
      chunks.push(chunk);
    }
    const seconds = Number(response.headers["retry-after"]);
    return {
      status: response.statusCode ?? 0,
      body: Buffer.concat(chunks),
      retryAfterMs: Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : undefined,
    };
  }

  #unreachable(error: Error): KmsError {
    const code = (error as NodeJS.ErrnoException).code ?? error.message;
    const through = this.#proxy === undefined ? "" : ` through the proxy ${new URL(this.#proxy).host}`;
    const text = `kube-apiserver at ${this.server} does not answer${through}: ${code}`;
    return new KmsError("PEER_UNREACHABLE", text, error);
  }
}

/** Returns the server's URL without query and fragment. @throws KmsError CONFIG_INVALID */
function serverUrl(server: string): URL {
  // Like client-go, uses plain HTTP without a scheme.
  const text = /^[a-z][a-z0-9+.-]*:\/\//i.test(server) ? server : `http://${server}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new KmsError("CONFIG_INVALID", "the kubeconfig's server is not an http or https URL");
  }
  url.search = "";
  url.hash = "";
  return url;
}

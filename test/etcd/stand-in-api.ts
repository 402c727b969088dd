// An HTTP server that stands in for kube-apiserver, for situations that a real one does not produce on demand:
// conflicts, overload, expired credentials, failing controllers.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach } from "vitest";

import { KubeApi, type KubeAnswer } from "../../src/etcd/kube-api.js";
import { makeCertificate } from "../support/certificate.js";

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: unknown;
}

export interface Answer {
  readonly status: number;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Replacements for parts of the kubeconfig. */
export interface KubeconfigParts {
  readonly user?: object;
  readonly cluster?: object;
}

/** Shared by all stand-ins in this process. */
let tls: { readonly cert: Buffer; readonly key: Buffer } | undefined;

export class StandInApi {
  readonly asked: Asked[] = [];
  readonly #server: ReturnType<typeof createHttpServer | typeof createServer>;
  readonly #scheme: string;
  readonly folder = mkdtempSync(join(tmpdir(), "stand-in-api-"));
  readonly kubeconfig = join(this.folder, "kubeconfig");

  /**
   * @param answer called for each request in turn
   * @param isPlain serves HTTP without TLS
   */
  constructor(answer: (asked: Asked) => Answer | Promise<Answer>, isPlain = false) {
    const listener: RequestListener = (request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const text = Buffer.concat(chunks).toString();
        const { method = "", url = "", headers } = request;
        const asked = {
          method,
          path: url,
          headers,
          body: text === "" ? undefined : (JSON.parse(text) as unknown),
        };
        this.asked.push(asked);
        void Promise.resolve(answer(asked)).then(({ status, body = {}, headers: extra = {} }) => {
          response
            .writeHead(status, { "Content-Type": "application/json", ...extra })
            .end(typeof body === "string" ? body : JSON.stringify(body));
        });
      });
    };
    this.#scheme = isPlain ? "http" : "https";
    this.#server = isPlain ? createHttpServer(listener) : createServer(this.#certificate(), listener);
  }

  get server(): string {
    return `${this.#scheme}://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Starts to listen. Returns a client that found it through a kubeconfig. */
  async connect(parts: KubeconfigParts = {}, env: NodeJS.ProcessEnv = {}): Promise<KubeApi> {
    await this.listen();
    this.writeKubeconfig(parts);
    return KubeApi.connect({ kubeconfig: this.kubeconfig }, env);
  }

  async listen(): Promise<void> {
    if (this.#server.listening) return;
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
  }

  writeKubeconfig({ user = { token: "a-token" }, cluster = {} }: KubeconfigParts = {}): void {
    const authority = this.#scheme === "https" ? { "certificate-authority": "cert.pem" } : {};
    const config = {
      clusters: [{ name: "c", cluster: { server: this.server, ...authority, ...cluster } }],
      users: [{ name: "u", user }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
      "current-context": "x",
    };
    writeFileSync(this.kubeconfig, JSON.stringify(config));
  }

  async close(): Promise<void> {
    rmSync(this.folder, { recursive: true });
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #certificate(): { readonly cert: Buffer; readonly key: Buffer } {
    const [cert, key] = [join(this.folder, "cert.pem"), join(this.folder, "key.pem")];
    if (tls === undefined) {
      makeCertificate(cert, key);
      tls = { cert: readFileSync(cert), key: readFileSync(key) };
    } else {
      writeFileSync(cert, tls.cert);
      writeFileSync(key, tls.key);
    }
    return tls;
  }
}

/** A stand-in and one client of it, for each test. */
export class StandInUse {
  standIn!: StandInApi;
  /** How the stand-in answers: with status 200 at the start of each test. */
  answer: (asked: Asked) => Answer = () => ({ status: 200 });
  api: KubeApi | undefined;

  start(isPlain = false): void {
    this.standIn = new StandInApi((asked) => this.answer(asked), isPlain);
  }

  async close(): Promise<void> {
    this.api?.close();
    this.api = undefined;
    await this.standIn.close();
  }

  get(): Promise<KubeAnswer> {
    return (this.api as KubeApi).request({ method: "GET", path: "/api" });
  }

  /** Connects with this kubeconfig and makes a request. Returns the headers that arrived. */
  async ask(parts: KubeconfigParts, env: NodeJS.ProcessEnv = {}): Promise<Asked["headers"]> {
    this.api?.close();
    this.api = await this.standIn.connect(parts, env);
    await this.get();
    return this.standIn.asked.at(-1)?.headers ?? {};
  }
}

/** Starts a stand-in before each test of the file, and closes it afterwards. */
export function useStandInApi(): StandInUse {
  const use = new StandInUse();
  beforeEach(() => {
    use.answer = () => ({ status: 200 });
    use.start();
  });
  afterEach(() => use.close());
  return use;
}

// An HTTP server in the place of kube-apiserver, for what a real one does not do on command: conflicts, overload,
// credentials that run out, controllers that fail.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { KubeApi } from "../../src/etcd/kube-api.js";

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

export class StandInApi {
  readonly asked: Asked[] = [];
  readonly #server: Server;
  readonly #folder = mkdtempSync(join(tmpdir(), "stand-in-api-"));
  readonly #kubeconfig = join(this.#folder, "kubeconfig");

  /** @param answer called for each request in turn */
  constructor(answer: (asked: Asked) => Answer) {
    this.#server = createServer((request, response) => {
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
        const { status, body = {}, headers: extra = {} } = answer(asked);
        response
          .writeHead(status, { "Content-Type": "application/json", ...extra })
          .end(JSON.stringify(body));
      });
    });
  }

  /** Starts to listen. Returns a client that a kubeconfig has led to it. */
  async connect(): Promise<KubeApi> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    const server = `http://127.0.0.1:${String((this.#server.address() as AddressInfo).port)}`;
    const config = {
      clusters: [{ name: "c", cluster: { server, "insecure-skip-tls-verify": true } }],
      users: [{ name: "u", user: { token: "a-token" } }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
      "current-context": "x",
    };
    writeFileSync(this.#kubeconfig, JSON.stringify(config));
    return KubeApi.connect({ kubeconfig: this.#kubeconfig });
  }

  async close(): Promise<void> {
    rmSync(this.#folder, { recursive: true });
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

// An API server of a test's etcd, as Kubernetes 1.37 answers about objects that it cannot read: GET and LIST fail with "corrupt
// object", and DELETE succeeds only with the option for such objects. Real ones are in test/e2e.

import type { TestEtcd } from "../../support/etcd.js";
import { StandInApi, type Answer, type Asked } from "../../etcd/stand-in-api.js";

const NAMESPACE = "/registry/namespaces/kube-system";
const SECRET_PATH = /^\/api\/v1\/namespaces\/([^/]+)\/secrets\/([^/?]+)$/;
const resource = (name: string, scope: string): object => ({
  resource: name,
  scope,
  verbs: ["get", "list", "patch", "delete"],
});
const CORE = [resource("secrets", "Namespaced"), resource("namespaces", "Cluster")];

export interface RecoveryHooks {
  /** Called before each DELETE. */
  onDelete?: (key: string) => unknown;
  /** Replaces the answer to a request. */
  instead?: (asked: Asked) => Answer | undefined;
}

export class StandInRecovery {
  hooks: RecoveryHooks = {};
  /** Etcd keys that this API server can read. */
  readonly readable = new Set<string>();
  readonly #etcd: TestEtcd;
  readonly #api: StandInApi;
  readonly #answering = new Set<Promise<Answer>>();

  constructor(etcd: TestEtcd) {
    this.#etcd = etcd;
    this.#api = new StandInApi((asked) => {
      const answer = this.#answer(asked);
      this.#answering.add(answer);
      return answer.finally(() => this.#answering.delete(answer));
    });
  }

  get kubeconfig(): string {
    return this.#api.kubeconfig;
  }

  /** The requests so far. */
  get asked(): readonly Asked[] {
    return this.#api.asked;
  }

  /** The etcd keys of the DELETE requests. */
  get deletions(): string[] {
    return this.#api.asked.filter(({ method }) => method === "DELETE").map(({ path }) => keyOf(path));
  }

  /** Waits until every request so far has been answered. */
  async idle(): Promise<void> {
    await Promise.all(this.#answering);
  }

  /** The bodies of the DELETE requests. */
  get deleteOptions(): unknown[] {
    return this.#api.asked.filter(({ method }) => method === "DELETE").map(({ body }) => body);
  }

  async start(): Promise<void> {
    await this.#etcd.store.put(NAMESPACE, Buffer.from(JSON.stringify({ metadata: { uid: "u-1" } })));
    await this.#api.listen();
    this.#api.writeKubeconfig();
  }

  /** Forgets requests and hooks. */
  reset(): void {
    this.#api.asked.length = 0;
    this.hooks = {};
    this.readable.clear();
  }

  close(): Promise<void> {
    return this.#api.close();
  }

  async #answer(asked: Asked): Promise<Answer> {
    const { method, path } = asked;
    const replaced = this.hooks.instead?.(asked);
    if (replaced !== undefined) return replaced;
    if (path === "/api" || path === "/apis") return discovery(path === "/api" ? CORE : []);
    if (method === "POST") return { status: 201, body: { status: { allowed: true } } };
    if (path.startsWith("/api/v1/namespaces?")) {
      return {
        status: 200,
        body: { metadata: { resourceVersion: String(await this.#etcd.store.revision()) } },
      };
    }
    if (path.endsWith("/kube-system")) return this.#namespace();
    if (path.startsWith("/api/v1/secrets?")) return { status: 200, body: { metadata: {} } };
    return this.#secret(method, keyOf(path));
  }

  async #namespace(): Promise<Answer> {
    const [entry] = await this.#etcd.store.list(NAMESPACE);
    const resourceVersion = String(entry?.modRevision);
    return { status: 200, body: { metadata: { uid: "u-1", resourceVersion } } };
  }

  async #secret(method: string, key: string): Promise<Answer> {
    if (method === "DELETE") await this.hooks.onDelete?.(key);
    if ((await this.#etcd.store.get(key)) === undefined) return { status: 404 };
    if (method === "DELETE" && !this.readable.has(key)) {
      await this.#etcd.store.delete(key);
      return { status: 200, body: { kind: "Status", status: "Success" } };
    }
    if (this.readable.has(key)) {
      return method === "GET" ? { status: 200 } : { status: 422, body: { message: "is exclusively used" } };
    }
    const message = "Internal error occurred: StorageError: corrupt object, Code: 7";
    return { status: 500, body: { kind: "Status", message } };
  }
}

function keyOf(path: string): string {
  const [, namespace = "", name = ""] = SECRET_PATH.exec(path) ?? [];
  return `/registry/secrets/${namespace}/${name}`;
}

function discovery(resources: readonly object[]): Answer {
  const items = resources.length === 0 ? [] : [{ metadata: {}, versions: [{ version: "v1", resources }] }];
  return { status: 200, body: { kind: "APIGroupDiscoveryList", items } };
}

// Serves the HTTP endpoints for operators and probes on loopback. /livez never depends on the HSM, so that an outage
// restarts nothing; /readyz and /healthz do. Reads no bodies and stores nothing.
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, isIP, type Server } from "node:net";
import { KmsError } from "../errors.js";
import { BACKLOG, createOneRequestServer, sendAnswer } from "./http-connections.js";
import { RenderingBudget, SharedRendering } from "./shared-rendering.js";

/** Whether the plugin is ready, and its findings. */
export interface Readiness {
  readonly ready: boolean;
  /** Findings for an operator, one per line. */
  readonly lines: readonly string[];
}

/** The content of the endpoints; each function is called for every rendering. */
export interface HttpContent {
  readonly readiness: () => Readiness;
  /** Returns the body of /keys. @param refresh whether to read the token again soon; the provider limits how often */
  readonly keys?: (refresh: boolean) => unknown;
  readonly metrics: () => Promise<string>;
  readonly metricsType: string;
  /** Returns the page for people at /; without it there is none. */
  readonly page?: () => Promise<HtmlPage>;
}

/** What each of several clusters has for itself. */
export interface HttpClusters {
  readonly names: () => readonly string[];
  /** Returns undefined for a cluster that is not served. */
  readonly content: (name: string) => HttpContent | undefined;
}

/** A page for people with the headers that protect it. */
export interface HtmlPage {
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** The address on which the endpoints listen. */
export interface HttpAddress {
  readonly host: string;
  readonly port: number;
}

/** Endpoints that are listening. */
export interface RunningHttp {
  readonly address: HttpAddress;
  stop(): Promise<void>;
}

/** Starts the endpoints. @throws KmsError SOCKET_UNUSABLE if the port is taken */
export async function startHttp(
  address: HttpAddress,
  content: HttpContent,
  clusters?: HttpClusters,
): Promise<RunningHttp> {
  const pages = new Site(content, clusters);
  const server = createOneRequestServer((request, response) => {
    answer(request, response, pages).catch(() => {
      response.destroy();
    });
  });
  await listen(server, address);
  const bound = server.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : address.port;
  return {
    address: { host: address.host, port },
    stop: async () => {
      server.closeAll();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Finds out whether the address can be listened on. @throws KmsError SOCKET_UNUSABLE */
export async function tryHttpAddress(address: HttpAddress): Promise<void> {
  const server = createServer();
  await listen(server, address);
  await new Promise((resolve) => server.close(resolve));
}

interface Page {
  readonly status: number;
  readonly type: string;
  readonly body: Buffer;
  readonly headers?: Readonly<Record<string, string>>;
}

type Pages = ReadonlyMap<string, SharedRendering<Page>>;

/**
 * Returns the pages that are costly to render. Each has a budget of its own, so that a costly one does not delay the
 * others.
 */
function sharedPages({ readiness, keys, metrics, metricsType, page: people }: HttpContent): Pages {
  const shared = (render: () => Page | Promise<Page>): SharedRendering<Page> =>
    new SharedRendering(render, new RenderingBudget());
  const ready = shared(() => {
    const { ready, lines } = readiness();
    return page(ready ? 200 : 503, "text/plain", lines.map((line) => `${line}\n`).join(""));
  });
  const html = people && shared(async () => htmlPage(await people()));
  return new Map([
    ...(html === undefined ? [] : ([["/", html]] as const)),
    ["/readyz", ready],
    ["/healthz", ready],
    ["/metrics", shared(async () => page(200, metricsType, await metrics()))],
    ...(keys === undefined
      ? []
      : ([
          ["/keys", shared(() => json(keys(false)))],
          ["/keys?refresh", shared(() => json(keys(true)))],
        ] as const)),
  ]);
}

/** The pages of the plugin, and those of each of its clusters. */
class Site {
  readonly #pages: Pages;
  readonly #clusters: HttpClusters | undefined;
  readonly #ofClusters = new WeakMap<HttpContent, Pages>();

  constructor(content: HttpContent, clusters: HttpClusters | undefined) {
    this.#pages = sharedPages(content);
    this.#clusters = clusters;
  }

  /** Returns the page at a path, or why there is none. */
  at(path: string, query: URLSearchParams): SharedRendering<Page> | Page {
    const cluster = query.get("cluster");
    if (cluster !== null && this.#clusters === undefined) return NO_CLUSTERS;
    const pages = cluster === null ? this.#pages : this.#pagesOf(cluster);
    const refreshed = query.has("refresh") ? pages?.get(`${path}?refresh`) : undefined;
    const found = refreshed ?? pages?.get(path);
    if (found !== undefined) return found;
    return this.#clusters === undefined ? NO_SUCH_PAGE : needsCluster(this.#clusters.names());
  }

  #pagesOf(cluster: string): Pages | undefined {
    const content = this.#clusters?.content(cluster);
    if (content === undefined) return undefined;
    const pages = this.#ofClusters.get(content) ?? sharedPages(content);
    this.#ofClusters.set(content, pages);
    return pages;
  }
}

function needsCluster(names: readonly string[]): Page {
  const text = `one of /livez /readyz /healthz /metrics, or / /readyz /keys with ?cluster= and one of ${names.join(" ")}\n`;
  return page(404, "text/plain", text);
}

function page(status: number, type: string, body: string): Page {
  return { status, type, body: Buffer.from(body) };
}

function json(value: unknown): Page {
  return page(200, "application/json", `${JSON.stringify(value, null, 2)}\n`);
}

function htmlPage({ body, headers }: HtmlPage): Page {
  return { ...page(200, "text/html; charset=utf-8", body), headers };
}

const LIVE = page(200, "text/plain", "ok\n");
const NOT_LOCAL = page(403, "text/plain", "use localhost or an IP address as the host name\n");
const ONLY_GET = page(405, "text/plain", "only GET is supported\n");
const NO_CLUSTERS = page(404, "text/plain", "this plugin serves one cluster, which has no name\n");
const NO_SUCH_PAGE = page(404, "text/plain", "one of / /livez /readyz /healthz /metrics /keys\n");

async function listen(server: Server, { host, port }: HttpAddress): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const text = `http.address: cannot listen on ${host}:${port} (${error.code ?? error.message}); choose another port`;
      reject(new KmsError("SOCKET_UNUSABLE", text, error));
    });
    server.listen({ port, host, backlog: BACKLOG }, resolve);
  });
}

async function answer(request: IncomingMessage, response: ServerResponse, pages: Site): Promise<void> {
  const { status, type, body, headers } = await pageFor(request, response, pages);
  sendAnswer(response, { status, headers: { "content-type": type, ...headers }, body });
}

async function pageFor(request: IncomingMessage, response: ServerResponse, pages: Site): Promise<Page> {
  if (!isLocalName(request.headers.host)) return NOT_LOCAL;
  if (request.method !== "GET" && request.method !== "HEAD") return ONLY_GET;
  const [path = "", query] = (request.url ?? "").split("?", 2);
  if (path === "/livez") return LIVE;
  const shared = pages.at(path, new URLSearchParams(query));
  if (!(shared instanceof SharedRendering)) return shared;
  const gone = new AbortController();
  response.once("close", () => {
    gone.abort();
  });
  return shared.get(gone.signal);
}

/** Prevents DNS rebinding: a web page must not read these pages through a name of its own that resolves to loopback. */
export function isLocalName(host: string | undefined): boolean {
  if (host === undefined) return true;
  const name = host.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  return name === "localhost" || isIP(name) !== 0;
}

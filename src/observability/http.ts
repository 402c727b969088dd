// The HTTP endpoints for people and probes, on loopback only: /livez never depends on the HSM, so that an
// outage restarts nothing; /readyz and /healthz do. Takes no bodies and keeps nothing.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { isIP, type Socket } from "node:net";
import { KmsError } from "../errors.js";

export interface Readiness {
  readonly ready: boolean;
  /** For people: one finding a line. */
  readonly lines: readonly string[];
}

export interface HttpContent {
  readonly readiness: () => Readiness;
  /** @param refresh whether the caller asks for a new reading of the token, which may not come more often than now and then */
  readonly keys: (refresh: boolean) => unknown;
  readonly metrics: () => Promise<string>;
  readonly metricsType: string;
}

export interface HttpAddress {
  readonly host: string;
  readonly port: number;
}

export interface RunningHttp {
  readonly address: HttpAddress;
  stop(): Promise<void>;
}

const MAX_CONNECTIONS = 64;
const MAX_HEADER_BYTES = 8 * 1024;
const REQUEST_TIMEOUT_MS = 5_000;

/** @throws KmsError SOCKET_UNUSABLE when the port is taken */
export async function startHttp(address: HttpAddress, content: HttpContent): Promise<RunningHttp> {
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      requestTimeout: REQUEST_TIMEOUT_MS,
      headersTimeout: REQUEST_TIMEOUT_MS,
    },
    (request, response) => {
      answer(request, response, content).catch(() => {
        response.destroy();
      });
    },
  );
  closeOldest(server);
  server.on("clientError", (_error, socket) => {
    socket.destroy();
  });
  await listen(server, address);
  const bound = server.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : address.port;
  return {
    address: { host: address.host, port },
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Who holds all connections open would otherwise keep a probe out, and have the plugin restarted. */
function closeOldest(server: Server): void {
  const open = new Set<Socket>();
  server.on("connection", (socket) => {
    socket.once("close", () => open.delete(socket));
    open.add(socket);
    const [oldest] = open;
    if (open.size > MAX_CONNECTIONS) oldest?.destroy();
  });
}

async function listen(server: Server, { host, port }: HttpAddress): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const text = `http.address: cannot listen on ${host}:${String(port)} (${error.code ?? error.message}); choose another port`;
      reject(new KmsError("SOCKET_UNUSABLE", text, error));
    });
    server.listen(port, host, resolve);
  });
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  content: HttpContent,
): Promise<void> {
  if (!isLocalName(request.headers.host)) {
    send(response, 403, "text/plain", "name this host by its address\n");
    return;
  }
  if (request.method !== "GET" && request.method !== "HEAD") {
    send(response, 405, "text/plain", "only GET\n");
    return;
  }
  const [path, query] = (request.url ?? "").split("?", 2);
  switch (path) {
    case "/livez":
      send(response, 200, "text/plain", "ok\n");
      return;
    case "/readyz":
    case "/healthz": {
      const { ready, lines } = content.readiness();
      send(response, ready ? 200 : 503, "text/plain", lines.map((line) => `${line}\n`).join(""));
      return;
    }
    case "/metrics":
      send(response, 200, content.metricsType, await content.metrics());
      return;
    case "/keys":
      send(
        response,
        200,
        "application/json",
        JSON.stringify(content.keys(query === "refresh"), null, 2) + "\n",
      );
      return;
    default:
      send(response, 404, "text/plain", "one of /livez /readyz /healthz /metrics /keys\n");
  }
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { "content-type": type, "cache-control": "no-store" });
  response.end(body);
}

/** A web page cannot have its own name resolve to loopback and read what stands here. */
function isLocalName(host: string | undefined): boolean {
  if (host === undefined) return true;
  const name = host.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  return name === "localhost" || isIP(name) !== 0;
}

// Serves the fleet's page on a loopback port to one browser. Answers GET and HEAD of / only, and changes nothing.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Server } from "node:net";
import { KmsError } from "../../errors.js";
import { createOneRequestServer, sendAnswer } from "../../observability/http-connections.js";
import { isLocalName, type HtmlPage } from "../../observability/http.js";
import { ConsoleSession } from "./session.js";

const HOST = "127.0.0.1";
/** Maximum age in ms of a page that a request may get instead of a new one, since rendering a page asks every node. */
const SHARED_MS = 1_000;

/** A console that is listening. */
export interface RunningConsole {
  /** The address to open, which works once. */
  readonly url: string;
  stop(): Promise<void>;
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

const plain = (status: number, text: string, headers: Record<string, string> = {}): Answer => ({
  status,
  body: `${text}\n`,
  headers: { "content-type": "text/plain; charset=utf-8", ...headers },
});

const USED =
  "This address was opened before and works once. Stop the console with Ctrl-C, and start it again.";
const NO_COOKIE = "Open the address that 'kms-pkcs11 console' printed, in this browser. It works once.";

/** Starts the console. @param port 0 lets the system choose @throws KmsError SOCKET_UNUSABLE if the port is taken */
export async function startConsole(port: number, render: () => Promise<HtmlPage>): Promise<RunningConsole> {
  const shared = sharedPage(render);
  const session = new ConsoleSession();
  const server = createOneRequestServer((request, response) => {
    answerFor(request, session, shared).then(
      (answer) => {
        send(response, answer);
      },
      () => {
        response.destroy();
      },
    );
  });
  await listen(server, port);
  const bound = server.address();
  const chosen = typeof bound === "object" && bound !== null ? bound.port : port;
  return {
    url: `http://${HOST}:${chosen}/?ticket=${session.ticket}`,
    stop: async () => {
      server.closeAll();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function answerFor(
  { headers, method, url = "" }: IncomingMessage,
  session: ConsoleSession,
  page: () => Promise<HtmlPage>,
): Promise<Answer> {
  if (!isLocalName(headers.host)) return plain(403, "Use localhost or 127.0.0.1 as the host name.");
  if (method !== "GET" && method !== "HEAD") {
    return plain(405, "Only GET is supported.", { allow: "GET, HEAD" });
  }
  const [path, query] = url.split("?", 2);
  if (path !== "/") return plain(404, "There is only one page: /");
  const ticket = new URLSearchParams(query).get("ticket");
  if (ticket !== null && method === "GET") {
    const cookie = session.exchange(ticket);
    return cookie === undefined
      ? plain(403, USED)
      : plain(303, "See /", { location: "/", "set-cookie": cookie });
  }
  if (!session.admits(headers.cookie)) return plain(401, NO_COOKIE);
  const { body, headers: own } = await page();
  return { status: 200, body, headers: { "content-type": "text/html; charset=utf-8", ...own } };
}

function send(response: ServerResponse, { status, body, headers }: Answer): void {
  sendAnswer(response, {
    status,
    headers: {
      "referrer-policy": "no-referrer",
      "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
      ...headers,
    },
    body: Buffer.from(body),
  });
}

/** Has the page rendered once for all requests within a second. */
function sharedPage(render: () => Promise<HtmlPage>): () => Promise<HtmlPage> {
  let current: Promise<HtmlPage> | undefined;
  return () => {
    current ??= render().finally(() => {
      setTimeout(() => (current = undefined), SHARED_MS).unref();
    });
    return current;
  };
}

async function listen(server: Server, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const text = `--port: cannot listen on ${HOST}:${port} (${error.code ?? error.message}); choose another port`;
      reject(new KmsError("SOCKET_UNUSABLE", text, error));
    });
    server.listen({ port, host: HOST }, resolve);
  });
}

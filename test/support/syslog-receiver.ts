// Receivers of syslog messages: a server for streams in this process, and a real rsyslogd on a datagram socket.

import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";

import { waitFor } from "./wait.js";

/** Reads frames with octet counting (RFC 6587 section 3.4.1); a stalled one accepts connections and reads nothing. */
export class StreamReceiver {
  readonly messages: string[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  connections = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async listen(at: string | number, tls?: TlsOptions, isStalled = false): Promise<StreamReceiver> {
    const server = tls === undefined ? createServer() : createTlsServer(tls);
    const receiver = new StreamReceiver(server);
    server.on(tls === undefined ? "connection" : "secureConnection", (socket: Socket) => {
      receiver.#accept(socket, isStalled);
    });
    server.on("tlsClientError", () => undefined);
    await new Promise<void>((resolve) => {
      if (typeof at === "string") server.listen(at, resolve);
      else server.listen(at, "127.0.0.1", resolve);
    });
    return receiver;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  #accept(socket: Socket, isStalled: boolean): void {
    this.connections += 1;
    this.#sockets.add(socket);
    socket.on("error", () => undefined).on("close", () => this.#sockets.delete(socket));
    if (isStalled) return;
    let unread = Buffer.alloc(0);
    socket.on("data", (bytes: Buffer) => {
      unread = Buffer.concat([unread, bytes]);
      for (;;) {
        const space = unread.indexOf(" ");
        const end = space + 1 + Number(unread.toString("latin1", 0, Math.max(space, 0)));
        if (space < 0 || unread.length < end) return;
        this.messages.push(unread.toString("latin1", space + 1, end));
        unread = unread.subarray(end);
      }
    });
  }

  /** Closes the server and breaks its connections. */
  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** A real rsyslogd that writes the text of each message as a line. */
export class Rsyslogd {
  readonly socket: string;
  readonly #folder: string;
  #process: ChildProcess | undefined;

  constructor(folder: string) {
    this.#folder = folder;
    this.socket = join(folder, "syslog");
    writeFileSync(
      join(folder, "rsyslog.conf"),
      `global(workDirectory="${folder}" maxMessageSize="8k")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="${this.socket}" UseSpecialParser="off" Ruleset="all" RateLimit.Interval="0")
template(name="text" type="string" string="%syslogfacility-text% %app-name% %msgid% %msg%\\n")
ruleset(name="all") { action(type="omfile" file="${folder}/received" template="text" asyncWriting="off" flushInterval="1") }
`,
    );
  }

  /** Starts rsyslogd, or another one after it was killed; resolves when it has bound its socket. */
  async start(): Promise<void> {
    const files = ["-f", join(this.#folder, "rsyslog.conf"), "-i", join(this.#folder, "pid")];
    const PATH = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;
    const child = spawn("rsyslogd", ["-n", ...files], { stdio: "ignore", env: { ...process.env, PATH } });
    this.#process = child;
    let failure: Error | undefined;
    child.on("error", (error) => {
      failure = new Error("apt-get install rsyslog", { cause: error });
    });
    await waitFor(() => {
      if (failure !== undefined) throw failure;
      return readFileSync("/proc/net/unix", "utf8").includes(`${this.socket}\n`);
    });
  }

  signal(name: NodeJS.Signals): void {
    this.#process?.kill(name);
  }

  async kill(): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  }

  /** The lines received so far: facility, name, event, text. */
  received(): string[] {
    try {
      return readFileSync(join(this.#folder, "received"), "utf8").split("\n").slice(0, -1);
    } catch {
      return [];
    }
  }
}

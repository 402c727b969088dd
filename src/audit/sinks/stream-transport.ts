// Sends messages over TLS (RFC 5425) or to a stream socket in the file system, with octet counting (RFC 6587 section 3.4.1).
// Neither protocol acknowledges messages. A receiver confirms them by closing the connection after this side has ended it: it
// has then read to the end, since the kernel resets a connection whose receiver closes it with unread data. A receiver that
// closes first confirms nothing. Over a network its close may be on its way, so this side ends a second after its last message:
// a TLS 1.3 server, for example, may refuse a client's certificate after the client has sent its first messages.
import { statSync } from "node:fs";
import { connect as connectUnix, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { KmsError } from "../../errors.js";
import { fileProblem } from "../../files/ownership.js";
import { readRegular } from "../../files/regular-file.js";
import type { Transport, TransportLimits } from "./transport.js";

/** Each confirmation costs a connection. */
const CONFIRM_AFTER_MS = 30_000;
const MAX_PEM_BYTES = 1 << 20;
/** A receiver that sends more would take processor time from requests. */
const MAX_RECEIVED_BYTES = 64 * 1024;
const BY_OTHERS = 0o007;
const NO_TLS = "accepts connections but does not answer in TLS; give the port of its TLS input";

/** A syslog server. */
export interface TlsTarget {
  readonly host: string;
  readonly port: number;
  /** Names of PEM files; they are read for each connection, so that renewed certificates are used. */
  readonly ca?: string;
  readonly certificate?: string;
  readonly key?: string;
  /** Name that the server's certificate must have, if not `host`. */
  readonly serverName?: string;
}

/** Connects to a stream socket. @throws NodeJS.ErrnoException */
export async function openUnixStream(
  path: string,
  limits: TransportLimits,
  signal: AbortSignal,
): Promise<Transport> {
  const socket = connectUnix(path);
  await connected(socket, "connect", path, limits, signal);
  return new StreamTransport(socket, path, limits, 0);
}

/** Connects to a server whose certificate verifies. @throws NodeJS.ErrnoException, KmsError CONFIG_INVALID */
export async function openTls(
  target: TlsTarget,
  limits: TransportLimits,
  signal: AbortSignal,
): Promise<Transport> {
  const { host, port, serverName, ca, certificate, key } = target;
  const socket = connectTls({
    host,
    port,
    minVersion: "TLSv1.2",
    ...(ca !== undefined && { ca: pem(ca) }),
    ...(certificate !== undefined && { cert: pem(certificate) }),
    ...(key !== undefined && { key: pem(key, true) }),
    ...(serverName !== undefined ? { servername: serverName } : isIP(host) === 0 && { servername: host }),
  });
  const name = `${host}:${port}`;
  await connected(socket, "secureConnect", name, limits, signal);
  return new StreamTransport(socket, name, limits, limits.settleMs);
}

function pem(path: string, isSecret = false): Buffer {
  const problem = fileProblem(path, { danger: "redirect the audit log" });
  if (problem !== undefined) throw new KmsError("CONFIG_INVALID", problem);
  if (isSecret && (statSync(path).mode & BY_OTHERS) !== 0) {
    throw new KmsError("CONFIG_INVALID", `${path}: other users can read the private key; chmod o= it`);
  }
  return readRegular(path, MAX_PEM_BYTES);
}

async function connected(
  socket: Socket,
  event: string,
  name: string,
  { connectMs }: TransportLimits,
  signal: AbortSignal,
): Promise<void> {
  const stop = (): void => {
    socket.destroy(new Error("stopped"));
  };
  signal.addEventListener("abort", stop);
  let accepted = false;
  const missing = (): string => `${name}: ${accepted ? NO_TLS : "no connection"}`;
  try {
    await settled(connectMs, missing, (resolve, reject) => {
      socket.once("connect", () => (accepted = true));
      socket.once(event, resolve).once("error", (error: NodeJS.ErrnoException) => {
        reject(error.code === "ERR_SSL_WRONG_VERSION_NUMBER" ? new Error(`${name}: ${NO_TLS}`) : error);
      });
      socket.once("close", () => {
        reject(closedBy(name));
      });
    });
  } catch (error) {
    socket.on("error", () => undefined).destroy();
    throw error;
  } finally {
    // The signal outlives this connection, since each confirmation needs a new connection.
    signal.removeEventListener("abort", stop);
  }
}

function closedBy(name: string): Error {
  return new Error(`${name}: the receiver closed the connection`);
}

/** Rejects after a time, unless `start` has resolved or rejected before. */
function settled(
  ms: number,
  what: () => string,
  start: (resolve: () => void, reject: (error: Error) => void) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Error(`${what()} (after ${ms / 1000} s)`));
    }, ms);
    const end = (): void => {
      clearTimeout(timer);
    };
    start(
      () => {
        end();
        resolve();
      },
      (error) => {
        end();
        reject(error);
      },
    );
  });
}

class StreamTransport implements Transport {
  readonly confirmAfterMs = CONFIRM_AFTER_MS;
  readonly #socket: Socket;
  readonly #name: string;
  readonly #limits: TransportLimits;
  readonly #settleMs: number;
  #lastSentAt = -Infinity;
  #failure: Error | undefined;
  #onEnd: ((error?: Error) => void) | undefined;

  constructor(socket: Socket, name: string, limits: TransportLimits, settleMs: number) {
    this.#settleMs = settleMs;
    this.#socket = socket;
    this.#name = name;
    this.#limits = limits;
    socket.setKeepAlive(true, limits.sendMs);
    socket.on("error", ({ message }) => {
      this.#failure ??= new Error(`${name}: ${message}`);
    });
    socket.on("end", () => {
      if (socket.writableFinished) return;
      this.#failure ??= closedBy(name);
      this.#onEnd?.(this.#failure);
    });
    socket.on("close", () => {
      const failure = this.#failure;
      this.#failure ??= closedBy(name);
      this.#onEnd?.(failure);
    });
    // Syslog servers send nothing. What one sends is discarded: unread, it would hide the end of the connection.
    let received = 0;
    socket.on("data", ({ length }: Buffer) => {
      received += length;
      if (received <= MAX_RECEIVED_BYTES) return;
      socket.destroy(new Error("the receiver sends data without end; give the address of a syslog server"));
    });
  }

  get failure(): Error | undefined {
    return this.#failure;
  }

  async send(messages: readonly Buffer[]): Promise<void> {
    const frames = messages.flatMap((message) => [Buffer.from(`${message.length} `, "latin1"), message]);
    await settled(
      this.#limits.sendMs,
      () => `${this.#name}: the receiver has not read`,
      (resolve, reject) => {
        this.#onEnd = (error) => {
          reject(error ?? closedBy(this.#name));
        };
        if (this.#failure !== undefined) {
          reject(this.#failure);
          return;
        }
        this.#socket.write(Buffer.concat(frames), (error) => {
          if (error) reject(error);
          else resolve();
        });
      },
    );
    this.#lastSentAt = performance.now();
  }

  async confirm(): Promise<boolean> {
    await this.#settle();
    const what = (): string =>
      `${this.#name}: the receiver has not read everything and closed the connection`;
    await settled(this.#limits.confirmMs, what, (resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure);
        return;
      }
      this.#onEnd = (error) => {
        if (error === undefined) resolve();
        else reject(error);
      };
      this.#socket.end();
    });
    return false;
  }

  close(): void {
    this.#socket.destroy();
  }

  /** Waits long enough to learn of a close that the receiver made before the last message reached it. */
  async #settle(): Promise<void> {
    const ms = this.#lastSentAt + this.#settleMs - performance.now();
    if (ms <= 0 || this.#failure !== undefined) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#onEnd = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

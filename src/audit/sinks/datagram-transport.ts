// Sends messages to a datagram socket in the file system, such as /dev/log of rsyslogd or journald. The kernel reports what the
// receiver has not read yet; it has read everything if nothing is left and the same socket still accepts datagrams.
import { stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { getSystemErrorName } from "node:util";
import { fileURLToPath } from "node:url";
import type { Transport, TransportLimits } from "./transport.js";

/** Compiled from unix-datagram.c. */
export const DATAGRAM_LIBRARY = fileURLToPath(new URL(`unix-datagram-${process.arch}.node`, import.meta.url));
/** Pause between two attempts while the receiver's queue is full, in ms. */
const RETRY_MS = 10;

interface UnixDatagram {
  open(path: string): number;
  send(fd: number, message: Buffer): number;
  unread(fd: number): number;
  close(fd: number): number;
}

/** Loads a library once, however often a receiver has to be reconnected. */
const load = createRequire(import.meta.url);

/**
 * Connects to the socket.
 * @param library the file of DATAGRAM_LIBRARY
 * @throws Error with the code EPROTOTYPE if it is a stream socket
 */
export async function openDatagram(
  path: string,
  limits: TransportLimits,
  library = DATAGRAM_LIBRARY,
): Promise<Transport> {
  const socket = load(library) as UnixDatagram;
  const inode = await inodeOf(path);
  return new DatagramTransport(socket, path, limits, inode);
}

class DatagramTransport implements Transport {
  readonly confirmAfterMs = 0;
  readonly failure = undefined;
  readonly #socket: UnixDatagram;
  readonly #path: string;
  readonly #limits: TransportLimits;
  readonly #inode: string;
  readonly #fd: number;
  #isOpen = true;

  /** @param inode what `path` named before the connection */
  constructor(socket: UnixDatagram, path: string, limits: TransportLimits, inode: string) {
    this.#socket = socket;
    this.#path = path;
    this.#limits = limits;
    this.#inode = inode;
    this.#fd = this.#connect();
  }

  async send(messages: readonly Buffer[]): Promise<void> {
    for (const message of messages) {
      await this.#waitUntil(() => this.#trySend(message), this.#limits.sendMs, "the receiver has not read");
    }
  }

  async confirm(): Promise<boolean> {
    await this.#waitUntil(
      () => this.#socket.unread(this.#fd) === 0,
      this.#limits.confirmMs,
      "the receiver has not read everything",
    );
    // A socket that was closed drops what is unread.
    checked(this.#socket.close(this.#connect()), "close", this.#path);
    if ((await inodeOf(this.#path)) !== this.#inode) {
      throw new Error(`${this.#path}: the receiver has replaced its socket`);
    }
    return true;
  }

  close(): void {
    if (this.#isOpen) this.#socket.close(this.#fd);
    this.#isOpen = false;
  }

  #connect(): number {
    return checked(this.#socket.open(this.#path), "connect", this.#path);
  }

  #trySend(message: Buffer): boolean {
    const sent = this.#socket.send(this.#fd, message);
    if (["EAGAIN", "ENOBUFS"].includes(nameOf(sent))) return false;
    checked(sent, "send", this.#path);
    return true;
  }

  /** @param problem is reported with the limit */
  async #waitUntil(isDone: () => boolean, limitMs: number, problem: string): Promise<void> {
    const deadline = performance.now() + limitMs;
    while (this.#isOpen && !isDone()) {
      if (performance.now() > deadline) {
        throw new Error(`${this.#path}: ${problem} within ${limitMs / 1000} s`);
      }
      await sleep(RETRY_MS);
    }
    if (!this.#isOpen) throw new Error(`${this.#path}: closed`);
  }
}

async function inodeOf(path: string): Promise<string> {
  const { dev, ino } = await stat(path);
  return `${dev}:${ino}`;
}

function nameOf(result: number): string {
  return result < 0 ? getSystemErrorName(result) : "";
}

function checked(result: number, call: string, path: string): number {
  if (result >= 0) return result;
  const code = nameOf(result);
  throw Object.assign(new Error(`${call} ${code} ${path}`), { code });
}

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
  const fd = checked(socket.open(path), "connect", path);
  let isOpen = true;
  const untilDone = async (isDone: () => boolean, limitMs: number, what: string): Promise<void> => {
    const deadline = performance.now() + limitMs;
    while (isOpen && !isDone()) {
      if (performance.now() > deadline) throw new Error(`${path}: ${what} within ${limitMs / 1000} s`);
      await sleep(RETRY_MS);
    }
    if (!isOpen) throw new Error(`${path}: closed`);
  };
  const trySend = (message: Buffer): boolean => {
    const sent = socket.send(fd, message);
    if (["EAGAIN", "ENOBUFS"].includes(nameOf(sent))) return false;
    checked(sent, "send", path);
    return true;
  };
  return {
    confirmAfterMs: 0,
    failure: undefined,
    async send(messages) {
      for (const message of messages) {
        await untilDone(() => trySend(message), limits.sendMs, "the receiver has not read");
      }
    },
    async confirm() {
      await untilDone(
        () => socket.unread(fd) === 0,
        limits.confirmMs,
        "the receiver has not read everything",
      );
      // A socket that was closed drops what is unread.
      checked(socket.close(checked(socket.open(path), "connect", path)), "close", path);
      if ((await inodeOf(path)) !== inode) throw new Error(`${path}: the receiver has replaced its socket`);
      return true;
    },
    close() {
      if (isOpen) socket.close(fd);
      isOpen = false;
    },
  };
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

// Writes log lines to standard output, whose reader may stop reading (a stuck container runtime, journald under
// pressure, a terminal on hold) or leave. A write never blocks and never throws: lines wait in a bounded buffer. Lines
// that do not fit are dropped, counted, and reported by a line as soon as there is space again.
import { constants, fstatSync, openSync, write, writeSync } from "node:fs";
import { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { isatty } from "node:tty";

/** Maximum number of bytes that wait for the reader: a few thousand lines. */
const MAX_PENDING_BYTES = 1 << 20;
/** Time between two attempts to write to a terminal on hold (EAGAIN) or a full disk, in ms. */
const RETRY_MS = 200;

/** A destination that takes text without blocking. */
export interface LogSink {
  /** Bytes accepted but not yet passed to the kernel. */
  readonly pendingBytes: number;
  write(text: string): void;
  /** Called once, with the reason, when no further write is possible. */
  onBroken(listener: (error: Error) => void): void;
  /** Resolves when everything has been passed to the kernel; may never resolve. */
  end(): Promise<void>;
}

/** Writes log lines to a sink without ever blocking. */
export class LogOutput {
  readonly #sink: LogSink;
  readonly #maxPendingBytes: number;
  #broken = false;
  #dropped = 0;
  #unreported = 0;

  constructor(sink: LogSink, maxPendingBytes = MAX_PENDING_BYTES) {
    this.#sink = sink;
    this.#maxPendingBytes = maxPendingBytes;
    sink.onBroken(() => {
      this.#broken = true;
    });
  }

  /** Number of lines dropped since the start. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Accepts one line, including its line break, or drops it. Never blocks, never throws. */
  write(line: string): void {
    if (this.#broken || this.#sink.pendingBytes + line.length > this.#maxPendingBytes) {
      this.#dropped++;
      this.#unreported++;
      return;
    }
    if (this.#unreported > 0) {
      this.#sink.write(droppedLine(this.#unreported));
      this.#unreported = 0;
    }
    this.#sink.write(line);
  }

  /** Waits until all accepted lines have been written, at most `limitMs`. */
  async close(limitMs: number): Promise<void> {
    if (this.#broken) return;
    await Promise.race([this.#sink.end(), sleep(limitMs, undefined, { ref: false })]);
  }
}

function droppedLine(dropped: number): string {
  const time = new Date().toISOString();
  const msg = "log lines were dropped: standard output was not read fast enough";
  return `${JSON.stringify({ level: "warn", time, dropped, msg })}\n`;
}

/** Returns the sink for a file descriptor of any kind: pipe, socket, terminal or file. */
export function openSink(fd: number): LogSink {
  const stat = fstatSync(fd);
  return stat.isFIFO() || stat.isSocket() ? new StreamSink(fd) : new FileSink(nonBlocking(fd));
}

/** A pipe or a socket. Node writes at once what the kernel accepts, and queues the rest. */
class StreamSink implements LogSink {
  readonly #stream: Socket;

  constructor(fd: number) {
    this.#stream = new Socket({ fd, readable: false, writable: true });
    // The log alone does not keep the process alive.
    this.#stream.unref();
  }

  get pendingBytes(): number {
    return this.#stream.writableLength;
  }

  write(text: string): void {
    this.#stream.write(text);
  }

  onBroken(listener: (error: Error) => void): void {
    this.#stream.on("error", listener);
  }

  end(): Promise<void> {
    return new Promise((resolve) => {
      this.#stream.once("error", () => {
        resolve();
      });
      this.#stream.end(resolve);
    });
  }
}

/**
 * A terminal or a file, written in libuv's thread pool: a disk that hangs blocks one thread and no request. Not
 * sonic-boom 4.2, which at the end tries forever to write to a full disk.
 */
class FileSink implements LogSink {
  readonly #fd: number;
  /** The unwritten part of the current write. */
  #current = Buffer.alloc(0);
  /** Lines for the next write. Joined once, when it begins: a disk that hangs must not cost a copy for each line. */
  #queued: Buffer[] = [];
  #queuedBytes = 0;
  #writing = false;
  #onIdle: () => void = () => undefined;
  #onBroken: (error: Error) => void = () => undefined;

  constructor(fd: number) {
    this.#fd = fd;
    process.once("exit", () => {
      this.#writeLast();
    });
  }

  get pendingBytes(): number {
    return this.#current.length + this.#queuedBytes;
  }

  write(text: string): void {
    const line = Buffer.from(text);
    this.#queued.push(line);
    this.#queuedBytes += line.length;
    this.#writeNext();
  }

  onBroken(listener: (error: Error) => void): void {
    this.#onBroken = listener;
  }

  end(): Promise<void> {
    return new Promise((resolve) => {
      this.#onIdle = resolve;
      this.#writeNext();
    });
  }

  #writeNext(): void {
    if (this.#writing) return;
    if (this.#current.length === 0) this.#takeQueued();
    if (this.#current.length === 0) {
      this.#onIdle();
      return;
    }
    this.#writing = true;
    write(this.#fd, this.#current, (error, bytes) => {
      if (error === null) this.#wrote(bytes);
      else if (error.code === "EPIPE" || error.code === "EIO") this.#onBroken(error);
      else {
        setTimeout(() => {
          this.#wrote(0);
        }, RETRY_MS).unref();
      }
    });
  }

  #takeQueued(): void {
    this.#current = Buffer.concat(this.#queued);
    this.#queued = [];
    this.#queuedBytes = 0;
  }

  #wrote(bytes: number): void {
    this.#writing = false;
    this.#current = this.#current.subarray(bytes);
    this.#writeNext();
  }

  /** Writes the remaining lines at the end of the process, as far as possible without waiting. */
  #writeLast(): void {
    try {
      writeSync(this.#fd, Buffer.concat([this.#current, ...this.#queued]));
    } catch {
      // A full disk, a terminal on hold, or a reader that has left.
    }
  }
}

/** Opens a terminal again, non-blocking: its file description is shared with the shell, which needs it blocking. */
function nonBlocking(fd: number): number {
  if (!isatty(fd)) return fd;
  try {
    const flags = constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
    return openSync(`/proc/self/fd/${fd}`, flags);
  } catch {
    return fd;
  }
}

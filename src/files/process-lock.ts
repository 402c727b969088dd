// A lock between processes that share a folder, even across containers. The kernel releases it when its holder dies. Node
// has no flock; so the holder listens on a unix socket, and a socket that refuses connections has no holder.
//
// The sockets are numbered. If the process of the highest number is dead, the next holder links its own socket under
// the following number, and holds the lock if no higher number exists then. The highest is never removed, so numbers
// only grow, and a new holder's socket is never mistaken for the dead one.
import { randomBytes } from "node:crypto";
import { chmodSync, chownSync, closeSync, linkSync, openSync, readdirSync, rmSync, statSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { KmsError } from "../errors.js";
import { ownerForNewFile } from "./regular-file.js";

const POLL_MS = 20;
const NUMBER = /^\.(\d{1,15})$/;
/** sockaddr_un holds 108 bytes, the last a NUL (unix(7)). */
const MAX_PATH_BYTES = 107;

/** The lock to take, and how long to wait for it. */
export interface ProcessLock {
  /** An existing folder in which only the users of the lock can write. */
  readonly folder: string;
  readonly name: string;
  /** What the holder is doing, as in "another process has been logging in"; for the error of those who wait. */
  readonly doing: string;
  /** How long to wait for the present holder. */
  readonly patienceMs: number;
}

/** A lock that this process holds. */
export interface HeldLock {
  release(): void;
}

/**
 * Waits until no other process holds the lock of this name, and takes it.
 * @throws KmsError HSM_UNAVAILABLE when others hold it for longer than `patienceMs`; NodeJS.ErrnoException when no
 * socket can be made there
 */
export async function takeProcessLock({ folder, name, doing, patienceMs }: ProcessLock): Promise<HeldLock> {
  const contender = new Contender(folder, `${name}.lock`);
  try {
    await contender.take(performance.now() + patienceMs, doing);
    return contender;
  } catch (error) {
    contender.release();
    throw error;
  }
}

class Contender {
  readonly #folder: string;
  readonly #name: string;
  /** Keeps the folder reachable by a short path, since the length of a socket's path is limited. */
  readonly #fd: number;
  readonly #own: string;
  #server: Server | undefined;

  constructor(folder: string, name: string) {
    this.#folder = folder;
    this.#name = name;
    this.#fd = openSync(folder, "r");
    this.#own = `.${randomBytes(6).toString("hex")}`;
  }

  async take(giveUpAt: number, doing: string): Promise<void> {
    for (;;) {
      const last = this.#highest();
      if (last === 0 || !(await this.#isHeld(last))) {
        if (await this.#succeed(last)) return;
      } else if (performance.now() >= giveUpAt) {
        throw new KmsError(
          "HSM_UNAVAILABLE",
          `another process has been ${doing} for a long time; waiting for it to finish`,
        );
      } else {
        await sleep(POLL_MS);
      }
    }
  }

  /** Releases the lock. Leaves the socket, since it has the highest number; without a listener it has no holder. */
  release(): void {
    this.#server?.close();
    rmSync(this.#path(this.#own), { force: true });
    closeSync(this.#fd);
  }

  /** Returns whether this contender now holds the lock; false if another one was quicker. */
  async #succeed(last: number): Promise<boolean> {
    this.#server ??= await this.#listen();
    const next = this.#numbered(last + 1);
    try {
      linkSync(this.#path(this.#own), next);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
      throw error;
    }
    const highest = this.#highest();
    if (highest !== last + 1) {
      rmSync(next, { force: true });
      return false;
    }
    for (const number of this.#numbers()) {
      if (number < highest) rmSync(this.#numbered(number), { force: true });
    }
    rmSync(this.#path(this.#own), { force: true });
    return true;
  }

  async #listen(): Promise<Server> {
    const server = createServer((peer) => peer.destroy());
    const path = this.#path(this.#own);
    const address = Buffer.byteLength(path) <= MAX_PATH_BYTES ? path : this.#short(this.#own);
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject).listen(address, resolve);
    });
    server.unref();
    chmodSync(path, 0o600);
    const owner = ownerForNewFile(statSync(this.#folder));
    if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
    return server;
  }

  /** Returns whether a process listens. A process with a full backlog is alive, too. */
  #isHeld(number: number): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const probe = connect(this.#short(`${this.#name}.${number}`));
      probe.once("connect", () => {
        probe.destroy();
        resolve(true);
      });
      probe.once("error", (error: NodeJS.ErrnoException) => {
        // If the holder disappears meanwhile, the next check finds that.
        if (error.code === "EAGAIN" || error.code === "ECONNRESET") resolve(true);
        // A removed socket no longer has the highest number; the next check decides.
        else if (error.code === "ECONNREFUSED" || error.code === "ENOENT") resolve(false);
        else reject(error);
      });
    });
  }

  #numbers(): number[] {
    return readdirSync(this.#folder).flatMap((file) => {
      const digits = file.startsWith(this.#name)
        ? NUMBER.exec(file.slice(this.#name.length))?.[1]
        : undefined;
      return digits === undefined ? [] : [Number(digits)];
    });
  }

  #highest(): number {
    return Math.max(0, ...this.#numbers());
  }

  #numbered(number: number): string {
    return this.#path(`${this.#name}.${number}`);
  }

  #path(file: string): string {
    return join(this.#folder, file);
  }

  #short(file: string): string {
    return `/proc/self/fd/${this.#fd}/${file}`;
  }
}

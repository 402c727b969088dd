// A process that binds a socket when a test tells it to, so that several can do so at the same moment.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const PROGRAM = fileURLToPath(new URL("./socket-starter.mjs", import.meta.url));

export class SocketProcess {
  readonly #child;
  readonly #lines;

  constructor(path: string) {
    this.#child = spawn(process.execPath, [PROGRAM, path], { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Has the process start or stop serving. Returns its answer: "bound", "stopped" or an error. */
  async order(what: "start" | "stop"): Promise<string> {
    this.#child.stdin.write(`${what}\n`);
    return String((await this.#lines.next()).value);
  }

  end(): void {
    this.#child.kill();
  }
}

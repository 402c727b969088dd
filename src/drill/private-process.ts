// A process of a drill: it gets an environment of its own, writes to a log in the private folder, and ends with the drill, even
// if that is killed.
import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { KmsError } from "../errors.js";
import { oneLine } from "../untrusted-text.js";

/**
 * A shell in front of the program, in a process group with it. When the drill ends, however it does, the pipe on its
 * standard input closes, and it kills the group. Of SIGTERM, which goes to the whole group, it lets the program decide.
 */
const GUARD =
  'trap : TERM; exec 3<&0; { read -r _ <&3; kill -KILL 0; } & exec 3<&- </dev/null; "$@"; code=$?; exit $code';
const STOP_MS = 5_000;
const POLL_MS = 50;
/** The last lines of a log, for the message of a failure. */
const LOG_LINES = 4;
const MAX_LINE = 400;

export interface PrivateProcessOptions {
  /** For messages: "etcd". */
  readonly name: string;
  /** The program and its arguments. */
  readonly command: readonly string[];
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  readonly logFile: string;
  /** Receives standard output, which is logged otherwise. */
  readonly onOutput?: (text: string) => void;
}

class PrivateProcess {
  readonly #name: string;
  readonly #logFile: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #ending: string | undefined;

  readonly #signal: AbortSignal;

  /** @param signal interrupts waiting for it */
  constructor({ name, command, folder, env, logFile, onOutput }: PrivateProcessOptions, signal: AbortSignal) {
    this.#name = name;
    this.#signal = signal;
    this.#logFile = logFile;
    const log = openSync(logFile, "a", 0o600);
    try {
      this.#child = spawn("/bin/sh", ["-c", GUARD, "drill", ...command], {
        cwd: folder,
        env,
        detached: true,
        stdio: ["pipe", onOutput === undefined ? log : "pipe", log],
      });
    } finally {
      closeSync(log);
    }
    this.#child.stdin?.on("error", () => undefined);
    if (onOutput !== undefined) this.#child.stdout?.setEncoding("utf8").on("data", onOutput);
    this.#ended = new Promise((resolve) => {
      const end = (how: string): void => {
        this.#ending ??= how;
        resolve();
      };
      this.#child.once("error", (error: NodeJS.ErrnoException) => {
        end(error.code ?? error.message);
      });
      // Ends what waits for the drill's end, which holds the output open.
      this.#child.once("exit", () => this.#child.stdin?.destroy());
      // Waits until the output has been read.
      this.#child.once("close", (code, signal) => {
        end(signal ?? `exit code ${String(code)}`);
      });
    });
  }

  /** Waits until the process has ended, and returns its exit code; null if a signal ended it. */
  async end(): Promise<number | null> {
    await this.#ended;
    return this.#child.exitCode;
  }

  /**
   * Waits until `isReady` returns true.
   * @throws KmsError PEER_UNREACHABLE if the process ends before, or after `limitMs`
   */
  async until(isReady: () => boolean | Promise<boolean>, limitMs: number): Promise<void> {
    const giveUpAt = performance.now() + limitMs;
    while (!(await isReady())) {
      if (this.#signal.aborted) throw new KmsError("CANCELLED", "interrupted");
      this.requireRunning();
      if (performance.now() > giveUpAt) throw this.failure(`was not ready after ${limitMs / 1000} s`);
      await sleep(POLL_MS);
    }
  }

  /** @throws KmsError PEER_UNREACHABLE if the process has ended */
  requireRunning(): void {
    if (this.#ending !== undefined) throw this.failure(`ended (${this.#ending}) before it was ready`);
  }

  /** Returns the error for what the process did, with the end of its log. */
  failure(what: string): KmsError {
    const tail = this.#logTail();
    return new KmsError("PEER_UNREACHABLE", `${this.#name} ${what}${tail === "" ? "" : `: ${tail}`}`);
  }

  /** Ends the process and its children: with SIGTERM first if it has something to close. */
  async stop(isGraceful: boolean): Promise<void> {
    if (isGraceful && this.#ending === undefined) {
      this.#send("SIGTERM");
      await Promise.race([this.#ended, sleep(STOP_MS, undefined, { ref: false })]);
    }
    this.#send("SIGKILL");
    await this.#ended;
  }

  #send(signal: NodeJS.Signals): void {
    if (this.#child.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }

  #logTail(): string {
    const lines = readFileSync(this.#logFile, "utf8").trimEnd().split("\n").slice(-LOG_LINES);
    return lines.map((line) => oneLine(line).slice(0, MAX_LINE)).join(" | ");
  }
}

export type { PrivateProcess };

/** The processes of one drill. */
export class ProcessGroup {
  readonly #signal: AbortSignal;
  readonly #started: PrivateProcess[] = [];
  #isOver = false;

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  /** Starts a process. @throws KmsError CANCELLED if the drill is over */
  start(options: PrivateProcessOptions): PrivateProcess {
    if (this.#isOver || this.#signal.aborted) throw new KmsError("CANCELLED", "interrupted");
    const child = new PrivateProcess(options, this.#signal);
    this.#started.push(child);
    return child;
  }

  /** Ends every process that still runs, and starts no other. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#started.map((child) => child.stop(false)));
  }
}

/** Returns the environment of a program that must know nothing of this machine's clusters. */
export function bareEnvironment(folder: string): NodeJS.ProcessEnv {
  const { PATH = "/usr/sbin:/usr/bin:/sbin:/bin" } = process.env;
  return { PATH, HOME: folder, TMPDIR: folder, LC_ALL: "C" };
}

/** Variables that lead to clusters, to other etcds, or to the plugin of this machine. */
const OF_CLUSTERS =
  /^(KUBECONFIG|KUBERNETES_\w+|KMS_PKCS11_CONFIG|ETCD\w*|NOTIFY_SOCKET|WATCHDOG_\w+|LISTEN_\w+|OTEL_\w+)$/;

/** Returns the environment for a plugin, whose vendor's library may need any other variable. */
export function pluginEnvironment(env: NodeJS.ProcessEnv, folder: string): NodeJS.ProcessEnv {
  const kept = Object.entries(env).filter(([name]) => !OF_CLUSTERS.test(name));
  return { ...Object.fromEntries(kept), TMPDIR: folder };
}

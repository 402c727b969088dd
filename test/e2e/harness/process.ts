// One child process of a test cluster: its log, its exit, its end. Knows nothing about the program that it runs. No
// child outlives the test process: each leads its own process group, which is killed when this process exits, and on
// Linux setpriv makes the kernel kill the child when this process is killed (PR_SET_PDEATHSIG).

import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";

const running = new Set<ManagedProcess>();
process.on("exit", () => {
  for (const child of running) child.signal("SIGKILL");
});

const setpriv = ["/usr/bin/setpriv", "/bin/setpriv"].find((path) => existsSync(path));

export interface ProcessOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Added to this process's environment; undefined removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Standard output and error are appended here, so that one file covers all restarts. */
  readonly logFile: string;
}

export class ManagedProcess {
  readonly name: string;
  readonly logFile: string;
  readonly startedAt = Date.now();
  /** Resolves with how the process ended; never rejects. */
  readonly exited: Promise<string>;
  /** How it ended; undefined while it runs. */
  ending: string | undefined;
  readonly #child: ChildProcess;

  private constructor(options: ProcessOptions) {
    this.name = options.name;
    this.logFile = options.logFile;
    const log = openSync(options.logFile, "a");
    const [command, args] =
      setpriv === undefined
        ? [options.command, [...options.args]]
        : [setpriv, ["--pdeathsig", "KILL", options.command, ...options.args]];
    this.#child = spawn(command, args, {
      env: { ...process.env, ...options.env },
      stdio: ["ignore", log, log],
      detached: true,
    });
    closeSync(log);
    this.exited = new Promise((resolve) => {
      const end = (ending: string): void => {
        this.ending ??= ending;
        running.delete(this);
        resolve(this.ending);
      };
      this.#child.once("error", (error) => {
        end(`did not start: ${error.message}`);
      });
      this.#child.once("exit", (code, signal) => {
        end(signal === null ? `exit code ${String(code)}` : signal);
      });
    });
    running.add(this);
  }

  static start(options: ProcessOptions): ManagedProcess {
    return new ManagedProcess(options);
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Sends a signal to the process; SIGKILL goes to its whole group. */
  signal(signal: NodeJS.Signals): void {
    const pid = this.#child.pid;
    if (pid === undefined) return;
    try {
      process.kill(signal === "SIGKILL" ? -pid : pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }

  /** Sends SIGTERM, and SIGKILL after the grace period. Returns how the process ended. */
  async stop(graceMs = 15_000): Promise<string> {
    if (this.ending === undefined) this.signal("SIGTERM");
    const timer = setTimeout(() => {
      this.signal("SIGKILL");
    }, graceMs);
    const ending = await this.exited;
    clearTimeout(timer);
    this.signal("SIGKILL"); // whatever the process left of its group
    return ending;
  }

  /** Sends SIGKILL to the process and its children. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.exited;
  }

  /** Returns the last lines of the log, for the message of a failure. */
  logTail(lines = 40): string {
    const text = existsSync(this.logFile) ? readFileSync(this.logFile, "utf8") : "";
    return text.trimEnd().split("\n").slice(-lines).join("\n");
  }
}

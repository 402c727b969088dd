// A remote token: `p11-kit server` in front of another token, used through p11-kit-client.so over a unix socket. The
// server is a real process that can be stopped, killed and restarted. p11-kit 0.24 supports few mechanisms: HMAC and
// RSA, but not GCM.

import { spawn, type ChildProcess } from "node:child_process";
import { rmSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";

import { findLibrary, makeFolder, type TestToken } from "./token.js";
import { waitFor } from "./wait.js";

const INSTALL = "apt-get install p11-kit p11-kit-modules";
const CLIENTS = [
  "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so",
  "/usr/lib/aarch64-linux-gnu/pkcs11/p11-kit-client.so",
  "/usr/lib64/pkcs11/p11-kit-client.so",
  "/usr/lib/pkcs11/p11-kit-client.so",
];

/** The token of `behind`, seen through a server that a test can disturb. */
export class P11KitRemote implements TestToken {
  readonly modulePath = findLibrary("p11-kit-client.so", CLIENTS, INSTALL);
  readonly label: string;
  readonly pin: string;
  readonly pinFile: string;
  readonly env: Readonly<Record<string, string>>;
  readonly #behind: TestToken;
  readonly #folder = makeFolder("p11kit");
  readonly #socket = join(this.#folder, "socket");
  #server: ChildProcess | undefined;

  constructor(behind: TestToken) {
    this.#behind = behind;
    this.label = behind.label;
    this.pin = behind.pin;
    this.pinFile = behind.pinFile;
    this.env = { P11_KIT_SERVER_ADDRESS: `unix:path=${this.#socket}` };
  }

  async start(): Promise<void> {
    rmSync(this.#socket, { force: true });
    const token = `pkcs11:token=${encodeURIComponent(this.label)}`;
    const args = [
      "server",
      "--foreground",
      "--name",
      this.#socket,
      "--provider",
      this.#behind.modulePath,
      token,
    ];
    // A process group of its own, since the server forks one process per connection and a signal is meant for all of
    // them.
    const server = spawn("p11-kit", args, {
      detached: true,
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, ...this.#behind.env },
    });
    this.#server = server;
    let failure: string | undefined;
    let printed = "";
    server.stderr.on("data", (chunk: Buffer) => (printed += chunk.toString()));
    server.once("error", () => (failure = `p11-kit is missing: ${INSTALL}`));
    server.once("exit", () => (failure ??= `p11-kit server ended: ${printed.trim()}`));
    // The file exists before anything listens on it.
    await waitFor(async () => failure !== undefined || (await isListening(this.#socket)), {
      what: "p11-kit server",
    });
    if (failure !== undefined) throw new Error(failure);
  }

  /** Sends SIGSTOP: connections stay open, calls hang. */
  stop(): void {
    this.#signal("SIGSTOP");
  }

  resume(): void {
    this.#signal("SIGCONT");
  }

  /** Sends SIGKILL to the server and its connections. Resolves when the server has ended. */
  async kill(): Promise<void> {
    const server = this.#server;
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) return;
    const gone = new Promise((resolve) => server.once("exit", resolve));
    this.#signal("SIGKILL");
    await gone;
    this.#server = undefined;
  }

  async restart(): Promise<void> {
    await this.kill();
    await this.start();
  }

  remove(): void {
    if (this.#server !== undefined) this.#signal("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #signal(signal: NodeJS.Signals): void {
    const pid = this.#server?.pid;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
}

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path, () => {
      probe.destroy();
      resolve(true);
    });
    probe.on("error", () => {
      resolve(false);
    });
  });
}

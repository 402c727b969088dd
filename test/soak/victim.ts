// The clients that must be served during an attack: kube-apiserver, with 3 s for a call, and kubelet, with 5 s for a
// probe.

import { request } from "node:http";

import { KmsClient } from "../../src/kms-client/kms-client.js";

/** Pause between two rounds. */
const EVERY_MS = 100;
/** timeoutSeconds of the probes in deploy/. */
const PROBE_TIMEOUT_MS = 5_000;

export class Victim {
  readonly failures: string[] = [];
  /** Number of complete rounds: kube-apiserver's calls and the probes. */
  rounds = 0;
  probes = 0;
  slowestMs = 0;
  readonly #socket: string;
  readonly #client: KmsClient;
  readonly #port: number;
  #stopped = false;

  constructor(socket: string, port: number) {
    this.#socket = socket;
    this.#client = new KmsClient(socket);
    this.#port = port;
  }

  /** Connects; kube-apiserver has been connected long before an attack. */
  async connect(): Promise<void> {
    await this.#client.status();
  }

  /** Sends calls and probes until it is stopped. */
  async run(): Promise<void> {
    await Promise.all([this.#repeat(() => this.#callAll()), this.#repeat(() => this.#probe())]);
    this.#client.close();
  }

  stop(): void {
    this.#stopped = true;
  }

  async #repeat(turn: () => Promise<void>): Promise<void> {
    while (!this.#stopped) {
      await turn().catch((error: unknown) => this.failures.push(String(error)));
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }

  /** Calls on the existing connection, and on a new one, as after a reload. */
  async #callAll(): Promise<void> {
    const reloaded = new KmsClient(this.#socket);
    try {
      await this.#callOn(this.#client);
      await this.#callOn(reloaded);
      this.rounds += 1;
    } finally {
      reloaded.close();
    }
  }

  async #callOn(client: KmsClient): Promise<void> {
    const plaintext = Buffer.from(`a DEK seed, number ${this.rounds}`);
    const { healthz } = await this.#timed(() => client.status());
    if (healthz !== "ok") throw new Error(`healthz: ${healthz}`);
    const sealed = await this.#timed(() => client.encrypt(plaintext, "victim"));
    const opened = await this.#timed(() => client.decrypt(sealed, "victim"));
    if (!opened.equals(plaintext)) throw new Error("another plaintext");
  }

  async #timed<T>(work: () => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    try {
      return await work();
    } finally {
      this.slowestMs = Math.max(this.slowestMs, performance.now() - startedAt);
    }
  }

  async #probe(): Promise<void> {
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const asked = request(
        { host: "127.0.0.1", port: this.#port, path: "/livez", agent: false, timeout: PROBE_TIMEOUT_MS },
        (response) => {
          response.resume();
          resolve(response.statusCode);
        },
      );
      asked.once("timeout", () => asked.destroy(new Error("/livez does not answer")));
      asked.once("error", reject);
      asked.end();
    });
    if (status !== 200) throw new Error(`/livez answers ${String(status)}`);
    this.probes += 1;
  }
}

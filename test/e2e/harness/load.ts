// A load of writes and reads: each lane creates Secrets through one API server and reads each of them at once through
// the next, until it is stopped. Failures are collected, not thrown.

import { setTimeout as pause } from "node:timers/promises";
import type { KubeClient } from "./kube-client.js";
import { summary } from "./report.js";

const LANES_PER_CLIENT = 2;

export interface LoadOptions {
  /** Pause between two writes of a lane, which leaves capacity for other work and keeps etcd small. */
  readonly pauseMs?: number;
}

export class Load {
  readonly failures: string[] = [];
  /** The number of Secrets created; all of them must exist at the end. */
  get written(): number {
    return this.#values.size;
  }
  /** The number of reads that found the written value. */
  read = 0;
  readonly #namespace: string;
  readonly #pauseMs: number;
  readonly #values = new Map<string, string>();
  readonly #writeMs: number[] = [];
  #stopped = false;
  #lanes: Promise<void> = Promise.resolve();

  private constructor(namespace: string, { pauseMs = 0 }: LoadOptions) {
    this.#namespace = namespace;
    this.#pauseMs = pauseMs;
  }

  /** Starts at once. Do not close the clients while it runs. */
  static start(clients: readonly KubeClient[], namespace: string, options: LoadOptions = {}): Load {
    const load = new Load(namespace, options);
    const lanes = clients.flatMap((writer, index) =>
      Array.from({ length: LANES_PER_CLIENT }, (_, lane) => {
        const reader = clients[(index + 1 + lane) % clients.length] ?? writer;
        return load.#lane(`load-${index}-${lane}`, writer, reader);
      }),
    );
    load.#lanes = Promise.all(lanes).then(() => undefined);
    return load;
  }

  /** Stops the load. May be called twice. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#lanes;
  }

  /** Reads all written objects in one LIST. Returns how many of them exist with their values. */
  async verify(client: KubeClient): Promise<number> {
    const { items } = await client.core.listNamespacedSecret({ namespace: this.#namespace });
    return items.filter(({ metadata, data }) => {
      const expected = this.#values.get(metadata?.name ?? "");
      return expected !== undefined && Buffer.from(data?.["value"] ?? "", "base64").toString() === expected;
    }).length;
  }

  writeSummary(): string {
    return summary(this.#writeMs);
  }

  async #lane(prefix: string, writer: KubeClient, reader: KubeClient): Promise<void> {
    for (let count = 0; !this.#stopped; count++) {
      const name = `${prefix}-${count}`;
      const value = `value of ${name}`;
      try {
        const begun = performance.now();
        await writer.createSecret(this.#namespace, name, value);
        this.#writeMs.push(performance.now() - begun);
        this.#values.set(name, value);
        const found = (await reader.readSecret(this.#namespace, name)).toString();
        if (found === value) this.read++;
        else this.failures.push(`${name} reads as something else`);
      } catch (error) {
        this.failures.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      }
      if (this.#pauseMs > 0) await pause(this.#pauseMs);
    }
  }
}

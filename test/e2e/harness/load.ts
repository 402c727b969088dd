// A load of writes and reads: every lane creates Secrets through one API server and reads each at once
// through the next one, until it is stopped. Failures are kept, not thrown.

import { setTimeout as pause } from "node:timers/promises";
import type { KubeClient } from "./kube-client.js";
import { summary } from "./report.js";

const LANES_PER_CLIENT = 2;

export interface LoadOptions {
  /** Between two writes of a lane: a load that leaves the machine to other things, and etcd small. */
  readonly pauseMs?: number;
}

export class Load {
  readonly failures: string[] = [];
  /** How many Secrets were created; every one of them must be there at the end. */
  get written(): number {
    return this.#values.size;
  }
  /** How many reads found what was written. */
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

  /** Starts at once. The clients must not be closed while it runs. */
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

  /** May be called twice. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#lanes;
  }

  /** Reads all that was written in one LIST; returns how many objects are there with their value. */
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

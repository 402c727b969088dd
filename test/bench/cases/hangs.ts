// Every call into the HSM hangs: Status meanwhile, and the time to the next good Encrypt when the hang ends.

import { setTimeout as sleep } from "node:timers/promises";

import { spreadOf } from "../../../src/bench/statistics.js";
import { KmsClient } from "../../../src/kms-client/kms-client.js";
import { FaultModule } from "../../support/fault-module.js";
import { PluginProcess } from "../../support/plugin-process.js";
import type { BenchRun } from "../bench-run.js";
import { shown } from "../results.js";

const SEED = Buffer.alloc(32);
/** Requests that hang while Status is asked for, and callers during a hang that ends. */
const HUNG_REQUESTS = 8;
const CALLERS = 4;
const SETTINGS = { cache: { entries: 0 }, log: { level: "error" } };

/** Measures Status while requests hang. */
export async function statusDuringHang({ stage, load, sizes, results }: BenchRun): Promise<void> {
  await withPlugin(stage, async (plugin, fault, client) => {
    fault.set("* hang");
    const hung = Array.from({ length: HUNG_REQUESTS }, () =>
      client.encrypt(SEED, "hung").catch(() => undefined),
    );
    const status = { operations: ["Status"], turnMs: sizes.statusMs, seeds: 0 };
    const [took] = await load.run([["hung", plugin.socket]], status);
    await Promise.all(hung);
    const p99Ms = took?.p99Ms ?? NaN;
    results.detail("statusWhileHung", took);
    results.below("`Status` while every HSM call hangs: p99", 5, spreadOf([p99Ms]), "ms");
  });
}

/** Measures how long requests still fail after hangs of different lengths have ended. */
export async function endOfHang({ stage, sizes, results }: BenchRun): Promise<void> {
  const seconds: number[] = [];
  for (const hangMs of sizes.hangsMs) {
    await withPlugin(stage, async (_plugin, fault, client) => {
      fault.set("* hang");
      const callers = Array.from({ length: CALLERS }, () => new Caller(client));
      await sleep(hangMs);
      fault.clear();
      const endedAt = performance.now();
      const answered = await Promise.race(callers.map((caller) => caller.answered(endedAt)));
      seconds.push((answered - endedAt) / 1000);
      await Promise.all(callers.map((caller) => caller.stop()));
    });
  }
  results.detail("afterHang", { hangsMs: sizes.hangsMs, seconds });
  results.below("a hang of every call ends: time to the next good Encrypt", 3, spreadOf(seconds), "s");
  results.answer(
    `**A hanging HSM.** When a hang of every call ends, the next Encrypt succeeds after ${shown(spreadOf(seconds))} s.`,
  );
}

/** Asks for one Encrypt after another, whether they succeed or not. */
class Caller {
  readonly #client: KmsClient;
  readonly #done: Promise<void>;
  #isStopped = false;
  /** Begin of the last request that succeeded. */
  #goodSince = -Infinity;

  constructor(client: KmsClient) {
    this.#client = client;
    this.#done = this.#ask();
  }

  /** Returns when the first request after `since` succeeded, by performance.now(). */
  async answered(since: number): Promise<number> {
    while (this.#goodSince < since) await sleep(2);
    return this.#goodSince;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#done;
  }

  async #ask(): Promise<void> {
    while (!this.#isStopped) {
      const good = await this.#client.encrypt(SEED, "caller").then(
        () => true,
        () => false,
      );
      if (good) this.#goodSince = performance.now();
      // kube-apiserver does not ask at once again either.
      else await sleep(10);
    }
  }
}

async function withPlugin(
  stage: BenchRun["stage"],
  measure: (plugin: PluginProcess, fault: FaultModule, client: KmsClient) => Promise<void>,
): Promise<void> {
  const fault = new FaultModule(stage.token);
  const plugin = new PluginProcess(fault, SETTINGS);
  const client = new KmsClient(plugin.socket);
  try {
    await plugin.start();
    await measure(plugin, fault, client);
  } finally {
    client.close();
    await plugin.stop("SIGKILL");
    plugin.remove();
    fault.remove();
  }
}

// The first of two tokens fails under load: failed requests, and the longest time without a good answer.

import { setTimeout as sleep } from "node:timers/promises";

import { spreadOf } from "../../../src/bench/statistics.js";
import { KmsClient } from "../../../src/kms-client/kms-client.js";
import { FaultModule } from "../../support/fault-module.js";
import { PluginProcess } from "../../support/plugin-process.js";
import { SoftHsmClone } from "../../support/softhsm-clone.js";
import { tokenUri } from "../../support/token.js";
import { waitFor } from "../../support/wait.js";
import type { BenchRun } from "../bench-run.js";
import { shown } from "../results.js";

const SEED = Buffer.alloc(32);
const CALLERS = 4;
/** Kinds of failure, as rules of the fault module. */
const FAILURES = { "answers every call with an error": "device-error", hangs: "* hang" } as const;
/** Load before the failure, and after the first good answer since, in ms. */
const BEFORE_MS = 500;
const AFTER_MS = 1_500;

/** Measures each kind of failure. */
export async function failover({ stage, sizes, results }: BenchRun): Promise<void> {
  const clone = new SoftHsmClone(stage.token, "clone");
  for (const [what, rule] of Object.entries(FAILURES)) {
    const gaps: number[] = [];
    let failed = 0;
    for (let repetition = 0; repetition < sizes.failovers; repetition++) {
      const took = await failOnce(stage.token, clone, rule);
      gaps.push(took.gapMs / 1000);
      failed += took.failed;
    }
    results.detail(`failover, first token ${what}`, { gaps, failed });
    results.below(`the first token ${what}, with a clone: longest gap`, 0.5, spreadOf(gaps), "s");
    results.finding({
      what: `the same: failed requests in ${sizes.failovers} failures`,
      target: "0",
      measured: String(failed),
      reached: failed === 0,
    });
    if (rule === "device-error") {
      results.answer(
        `**A failed HSM.** With a clone, the longest gap is ${shown(spreadOf(gaps))} s and ${failed} requests fail.`,
      );
    }
  }
}

interface Gap {
  readonly failed: number;
  readonly gapMs: number;
}

async function failOnce(token: BenchRun["stage"]["token"], clone: SoftHsmClone, rule: string): Promise<Gap> {
  const fault = new FaultModule(token);
  const spare = new FaultModule(clone);
  const plugin = new PluginProcess(fault, {
    cache: { entries: 0 },
    failover: [{ uri: tokenUri(spare, "kms-kek") }],
    log: { level: "error" },
  });
  const client = new KmsClient(plugin.socket);
  try {
    await plugin.start();
    const areReady = (): boolean => [fault, spare].every((one) => one.calls("C_Login") >= 2);
    await waitFor(areReady, { what: "serving and warm token hosts of both tokens" });
    const load = new Load(client);
    await sleep(BEFORE_MS);
    fault.set(rule);
    await sleep(AFTER_MS);
    return await load.stop();
  } finally {
    client.close();
    await plugin.stop("SIGKILL");
    plugin.remove();
    fault.remove();
    spare.remove();
  }
}

/** Closed loops of callers that ask for Encrypt until they are stopped. */
class Load {
  readonly #callers: readonly Promise<void>[];
  #isStopped = false;
  #failed = 0;
  #lastGood = performance.now();
  #gapMs = 0;

  constructor(client: KmsClient) {
    this.#callers = Array.from({ length: CALLERS }, () => this.#call(client));
  }

  async stop(): Promise<Gap> {
    this.#isStopped = true;
    await Promise.all(this.#callers);
    return { failed: this.#failed, gapMs: this.#gapMs };
  }

  async #call(client: KmsClient): Promise<void> {
    while (!this.#isStopped) {
      try {
        await client.encrypt(SEED, "load");
        const now = performance.now();
        this.#gapMs = Math.max(this.#gapMs, now - this.#lastGood);
        this.#lastGood = now;
      } catch {
        this.#failed++;
        await sleep(10);
      }
    }
  }
}

// Every case of the benchmark at its smallest size, with a client in this process in place of the load generator, and
// another plugin of ours in place of the reference plugin: both are programs in Go, which the tests do not need.

import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deserialize, serialize } from "node:v8";

import { afterAll, beforeAll, expect, it } from "vitest";

import type { Sample } from "../../src/bench/endpoints.js";
import { describeMachine } from "../../src/bench/machine.js";
import { KmsClient, type KmsCiphertext } from "../../src/kms-client/kms-client.js";
import { PluginProcess } from "../support/plugin-process.js";
import type { BenchRun } from "./bench-run.js";
import { besideReference } from "./cases/beside-reference.js";
import { calls } from "./cases/calls.js";
import { coldStart } from "./cases/cold-start.js";
import { failover } from "./cases/failover.js";
import { endOfHang, statusDuringHang } from "./cases/hangs.js";
import { memory } from "./cases/memory.js";
import { starts } from "./cases/starts.js";
import type { LoadGenerator, Target } from "./load-generator.js";
import { Results } from "./results.js";
import type { Sizes } from "./sizes.js";
import { Stage, type Started } from "./stage.js";

const TINY: Sizes = {
  repetitions: 1,
  turnMs: 1,
  warmMs: 1,
  seeds: 3,
  coldRepetitions: 1,
  delaysMs: [2],
  starts: 1,
  failovers: 1,
  hangsMs: [1],
  statusMs: 1,
  countedRequests: 5,
  memoryRequests: 20,
};

/** One plugin of ours stands for all that are compared. */
class StageWithoutGo extends Stage {
  readonly #plugin = new PluginProcess(this.token, { mode: "direct" });

  override async targets(): Promise<Target[]> {
    const { socket } = await this.startReference();
    return ["reference", "local-kek", "direct", "direct, no cache"].map((name) => [name, socket] as const);
  }

  override async startReference(): Promise<Started> {
    if (!this.#plugin.running) await this.#plugin.start();
    return { socket: this.#plugin.socket, stop: () => Promise.resolve() };
  }

  override async close(): Promise<void> {
    await this.#plugin.stop();
    this.#plugin.remove();
    await super.close();
  }
}

async function withClient<T>([, socket]: Target, use: (client: KmsClient) => Promise<T>): Promise<T> {
  const client = new KmsClient(socket);
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

/** Makes each kind of request once per turn; the measured times do not matter here. */
const CLIENT: LoadGenerator = {
  async run(targets, { operations = ["Decrypt"], concurrency = [1], repetitions = 1, readSeeds }) {
    const samples: Sample[] = [];
    for (const target of targets) {
      await withClient(target, async (client) => {
        const seeds =
          readSeeds === undefined
            ? [await client.encrypt(Buffer.alloc(32), "load").catch(() => undefined)]
            : (deserialize(readFileSync(readSeeds)) as KmsCiphertext[]);
        for (const operation of operations) {
          if (operation === "Status") await client.status();
          else for (const seed of seeds) if (seed !== undefined) await client.decrypt(seed, "load");
          for (const callers of concurrency) {
            for (let repetition = 0; repetition < repetitions; repetition++) {
              samples.push({ target: target[0], operation, concurrency: callers, repetition, ...TURN });
            }
          }
        }
      });
    }
    return samples;
  },

  writeSeeds: (target, count, file) =>
    withClient(target, async (client) => {
      const seeds: KmsCiphertext[] = [];
      for (let seed = 0; seed < count; seed++) seeds.push(await client.encrypt(randomBytes(32), "load"));
      writeFileSync(file, serialize(seeds));
    }),
};

const TURN = { requests: 1, seconds: 0.001, p50Ms: 1, p99Ms: 1 };

let run: BenchRun;

beforeAll(() => {
  const stage = new StageWithoutGo();
  const results = new Results(describeMachine(), {
    name: "bench",
    folder: join(stage.token.folder, "results"),
  });
  run = { stage, load: CLIENT, sizes: TINY, results };
});

afterAll(() => run.stage.close());

it.each([
  ["requests beside the reference plugin", besideReference, 7],
  ["a cold start", coldStart, 3],
  ["starts of the plugin and of short commands", starts, 4],
  ["calls into the HSM", calls, 1],
  ["Status while every call hangs", statusDuringHang, 1],
  ["the end of a hang", endOfHang, 1],
  ["a failover to a clone", failover, 4],
  ["memory over many requests", memory, 2],
] as const)("the benchmark measures %s", async (_title, measure, findings) => {
  const before = run.results.findings.length;
  await measure(run);
  const found = run.results.findings.slice(before);
  expect(found).toHaveLength(findings);
  for (const { measured } of found) expect(measured).not.toContain("NaN");
});

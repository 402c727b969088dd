// The plugin goes away and comes back while the API server writes: no write fails and no object is lost.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import { Load } from "./harness/load.js";
import { record } from "./harness/report.js";
import { until } from "./harness/wait.js";

/**
 * Longer than the API server tolerates before /readyz fails, and far shorter than the 3 minutes for which it continues
 * to write.
 */
const LONG_PAUSE_MS = 15_000;

let cluster: KmsCluster;
let node: Node;
let load: Load;

beforeAll(async () => {
  cluster = await KmsCluster.start();
  node = await cluster.startNode();
  load = Load.start([node.apiserver.client], NAMESPACE);
});

afterAll(async () => {
  await load.stop();
  await cluster.stop();
});

/** Resolves when `more` further writes have succeeded. */
async function writesGoOn(more = 50): Promise<void> {
  const target = load.written + more;
  await until(`${more} more writes`, () => load.written >= target);
}

describe("the plugin under a load of writes and reads", () => {
  it("no request fails while the plugin is restarted three times", async () => {
    await writesGoOn();
    for (let times = 1; times <= 3; times++) {
      expect(await node.plugin.stop()).toBe("exit code 0");
      await writesGoOn();
      record("plugin restart", `start ${times} to ready, ms`, await node.plugin.start());
      await writesGoOn();
    }
    expect(load.failures).toEqual([]);
  });

  it("no request fails while the plugin is killed three times", async () => {
    for (let times = 1; times <= 3; times++) {
      await node.plugin.kill();
      await writesGoOn();
      record("plugin restart", `start ${times} after SIGKILL to ready, ms`, await node.plugin.start());
      await writesGoOn();
    }
    expect(load.failures).toEqual([]);
  });

  it("/readyz reports a plugin that is away for longer, and no request fails", async () => {
    const { apiserver, plugin } = node;
    await plugin.stop();
    const stopped = Date.now();
    await until("the API server is unready", async () => (await apiserver.get("/readyz")).status === 500);
    record("plugin restart", "stopped to the API server unready, ms", Date.now() - stopped);
    await until("the pause is over", () => Date.now() - stopped > LONG_PAUSE_MS);
    await writesGoOn();
    expect((await apiserver.get("/livez")).status).toBe(200);
    await plugin.start();
    const back = Date.now();
    await until("the API server is ready", async () => (await apiserver.get("/readyz")).status === 200);
    record("plugin restart", "ready again to the API server ready, ms", Date.now() - back);
    await writesGoOn();
    expect(load.failures).toEqual([]);
  });

  it("a new API server reads every object after all restarts", async () => {
    await load.stop();
    record("plugin restart", "writes, failed", `${load.written}, ${load.failures.length}`);
    record("plugin restart", "reads", load.read);
    record("plugin restart", "ms of a write", load.writeSummary());
    await node.apiserver.restart();
    expect(await load.verify(node.apiserver.client)).toBe(load.written);
  });
});

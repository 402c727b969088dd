// The HSM of two running nodes goes away and comes back. The nodes differ in health.onHsmLoss. The outage lasts longer
// than kube-apiserver continues to write without a healthy Status (3 minutes).

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import { record } from "./harness/report.js";
import { UnreliableToken } from "./harness/unreliable-token.js";
import { until } from "./harness/wait.js";

const GRACE_MS = 10_000;
/** kube-apiserver's own limit on writes without a healthy Status. SLACK_MS is what a test run may need in addition. */
const WRITES_LIVE_MS = 180_000;
const SLACK_MS = 20_000;
/** The grace period begins when the plugin has noticed the loss. */
const NOTICED_MS = 5_000;
const SECTION = "HSM outage";

let token: UnreliableToken;
let cluster: KmsCluster;

afterAll(async () => {
  await cluster.stop();
});

const written: string[] = [];

async function write({ apiserver }: Node): Promise<void> {
  const name = `outage-${written.length}`;
  written.push(name);
  await apiserver.client.createSecret(NAMESPACE, name, name).catch((error: unknown) => {
    written.pop();
    throw error;
  });
}

/** Expects the objects of both nodes to be readable, from before the outage and from during it. */
async function expectReadable({ apiserver }: Node): Promise<void> {
  for (const name of [...written.slice(0, 2), ...written.slice(-2)]) {
    expect((await apiserver.client.readSecret(NAMESPACE, name)).toString()).toBe(name);
  }
}

async function readiness({ apiserver }: Node): Promise<number> {
  return (await apiserver.get("/readyz")).status;
}

const isReady = async ({ plugin }: Node): Promise<boolean> => (await plugin.get("/readyz")).status === 200;

describe("the HSM is away", () => {
  let stopping: Node;
  let keeping: Node;
  let nodes: Node[];
  let pids: (number | undefined)[];
  let away: number;

  const node = (onHsmLoss: string): Promise<Node> =>
    cluster.startNode({
      config: {
        keys: { refreshInterval: "1s" },
        health: { outageGracePeriod: `${GRACE_MS / 1000}s`, onHsmLoss },
      },
    });

  beforeAll(async () => {
    token = await UnreliableToken.create();
    cluster = await KmsCluster.start(token);
    nodes = [(stopping = await node("stopWrites")), (keeping = await node("keepWriting"))];
    pids = nodes.map(({ plugin }) => plugin.pid);
    for (const each of nodes) await write(each);
    for (const each of nodes) await expectReadable(each);
  });

  it("in the grace period only the plugin's endpoints report the outage, requests succeed", async () => {
    token.goAway();
    away = Date.now();
    await until("both plugins say so", async () => !(await isReady(stopping)) && !(await isReady(keeping)));
    record(SECTION, "until the plugins' /readyz says so, ms", Date.now() - away);
    for (const each of nodes) {
      await write(each);
      await expectReadable(each);
      expect(await readiness(each)).toBe(200);
      expect((await each.plugin.metrics()).sum("kms_pkcs11_hsm_up")).toBe(0);
    }
    expect(Date.now() - away).toBeLessThan(GRACE_MS);
  });

  it("after the grace period API servers are unready with the reason, requests succeed", async () => {
    for (const each of nodes) {
      await until("the API server is unready", async () => (await readiness(each)) === 500);
      record(SECTION, `until ${each.apiserver.name} is unready, ms`, Date.now() - away);
      const { status, body } = await each.apiserver.get("/readyz/kms-providers");
      expect(status).toBe(500);
      record(SECTION, `what ${each.apiserver.name} says`, body.trim().replaceAll("\n", " "));
      expect(body).toMatch(/token|CKR_|HSM/);
      await write(each);
      await expectReadable(each);
      expect((await each.apiserver.get("/livez")).status).toBe(200);
    }
  });

  it("after 3 minutes writes stop with stopWrites only, reads continue with both policies", async () => {
    const refusal = await until(
      "writes stop",
      () =>
        write(stopping).then(
          () => false,
          (error: unknown) => String(error),
        ),
      { timeoutMs: WRITES_LIVE_MS + SLACK_MS, intervalMs: 1_000 },
    );
    const stoppedMs = Date.now() - away;
    record(SECTION, "stopWrites: until writes stop, s (grace 10 s)", stoppedMs / 1000);
    expect(stoppedMs).toBeGreaterThan(GRACE_MS);
    expect(stoppedMs).toBeLessThan(GRACE_MS + WRITES_LIVE_MS + SLACK_MS);
    expect(refusal).toContain("500");

    // The last answer without a fault was given before the grace period ended: without the later answers, writes would
    // have stopped by now.
    const endedMs = NOTICED_MS + GRACE_MS + WRITES_LIVE_MS;
    await until("the other's time would be over", () => Date.now() - away > endedMs, {
      timeoutMs: WRITES_LIVE_MS,
    });
    await write(keeping);
    record(SECTION, "keepWriting: still writes after, s", (Date.now() - away) / 1000);
    for (const each of nodes) await expectReadable(each);
  }, 300_000);

  it("after the outage all is healthy without a restart, and nothing is lost", async () => {
    token.comeBack();
    const back = Date.now();
    for (const each of nodes) {
      await until("the plugin is ready", () => isReady(each), { timeoutMs: 60_000 });
      record(SECTION, `back, until ${each.plugin.name} is ready, ms`, Date.now() - back);
      await until("the API server is ready", async () => (await readiness(each)) === 200);
      record(SECTION, `back, until ${each.apiserver.name} is ready, ms`, Date.now() - back);
      await write(each);
    }
    expect(nodes.map(({ plugin }) => plugin.pid)).toEqual(pids);
    for (const { apiserver } of nodes) {
      for (const name of written) {
        expect((await apiserver.client.readSecret(NAMESPACE, name)).toString()).toBe(name);
      }
    }
    await cluster.stop();
  });
});

describe("the HSM is away, with a local KEK", () => {
  it("with a local KEK an API server restarts, reads and writes during an outage", async () => {
    written.length = 0;
    token = await UnreliableToken.create();
    cluster = await KmsCluster.start(token);
    const node = await cluster.startNode({ mode: "local-kek" });
    for (let count = 0; count < 4; count++) await write(node);
    token.goAway();
    await node.apiserver.stop();
    record(
      SECTION,
      "local KEK: API server restarted with the HSM away, ms to ready",
      await node.apiserver.start(),
    );
    await expectReadable(node);
    await write(node);
    await expectReadable(node);
    expect(await node.apiserver.kmsCalls("Encrypt")).toBe(1);
  });
});

// `keys destroy --nodes` when a clock is or was wrong, when a node has lost its memory, and when a node has just
// answered under the KEK.

import { rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { formatStoredObject } from "../../e2e/harness/stored-object.js";
import { startEtcd, type TestEtcd } from "../../support/etcd.js";
import { clockOff } from "../../support/faketime.js";
import { freePort } from "../../support/free-port.js";
import { runCommand } from "../../support/command.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import { kmsPkcs11, type CommandResult } from "../../support/plugin-process.js";
import { tokenUri } from "../../support/token.js";
import { waitFor } from "../../support/wait.js";

const HOUR_MS = 3_600_000;

const node = usePlugin({ keys: { refreshInterval: "200ms" } });
let etcd: TestEtcd;
let first: string;
let second: string;

/** Runs a command; with another clock, in a process of its own. */
async function run(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  const command = ["keys", ...args, "--key", tokenUri(node.token, "kms-kek")];
  const all = { ...node.token.env, ...env };
  return "FAKETIME" in env ? kmsPkcs11(command, all) : runCommand(command, all);
}
const destroy = (
  keyId: string,
  env: Readonly<Record<string, string>> = {},
  ...proof: string[]
): Promise<CommandResult> => run(["destroy", keyId, "--nodes", node.own.url, ...proof], env);
const live = (): string[] => ["--endpoints", etcd.endpoint];
const published = async (): Promise<unknown> =>
  ((await (await node.own.get("/keys")).json()) as Record<string, unknown>)["publishedKeyId"];

const callStatus = async (): Promise<string> => (await node.client.status()).keyId;

async function restart(env: Readonly<Record<string, string>> = {}): Promise<void> {
  node.plugin.env = env;
  await node.own.restart();
}

async function rotate(...options: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(["rotate", "-o", "json", ...options]);
  expect([code, stderr]).toEqual([0, expect.any(String)]);
  return (JSON.parse(stdout) as { created: { keyId: string } }).created.keyId;
}

/** Puts an object into etcd that is encrypted under the KEK. */
async function storeObjectUnder(keyId: string): Promise<void> {
  const stored = { provider: "hsm", encryptedData: Buffer.alloc(80), encryptedDekSource: Buffer.alloc(60) };
  const under = formatStoredObject({ ...stored, keyId, annotations: {}, encryptedDekSourceType: 1 });
  await etcd.store.put("/registry/secrets/ns/a", under);
}

beforeAll(async () => {
  etcd = await startEtcd();
  await etcd.store.put("/registry/configmaps/ns/a", Buffer.from("k8s\0"));
  first = await callStatus();
  second = await rotate("--activate-in", "1s");
  await waitFor(async () => (await callStatus()) === second, { timeoutMs: 30_000, intervalMs: 50 });
});

afterAll(() => etcd.remove());

describe("a retired KEK", () => {
  it("a retired KEK is kept while an API server may still use a node's last answer", async () => {
    const { code, stderr } = await destroy(first, {}, ...live());
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(
        /its Status or Encrypt answered under it at .*, API servers may still encrypt under the KEK; repeat the command after that/,
      ),
    ]);
  });

  it("a retired KEK is kept while the operator's clock is ahead", async () => {
    const offset = "+30m";
    const refused = await destroy(first, clockOff(offset), ...live());
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringMatching(/its clock is (1[78]\d\d)\.\d s .*; nothing was/),
    ]);
    const list = await run(["list", "--nodes", node.own.url], clockOff(offset));
    expect([list.code, list.stdout]).toEqual([1, expect.stringMatching(/differs: .*its clock is/)]);
    expect((await run(["list", "--nodes", node.own.url])).code).toBe(0);
  });
});

describe("keys rotate --abort-unless-converged", () => {
  it("'keys rotate' makes nothing if the activation has passed by a node's clock", async () => {
    await restart(clockOff("+1h"));
    const { code, stderr } = await run([
      "rotate",
      "--activate-in",
      "20m",
      "--abort-unless-converged",
      "--nodes",
      node.own.url,
    ]);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/its clock is .* s ahead of .*; nothing was made/),
    ]);
    expect((JSON.parse((await run(["list", "-o", "json"])).stdout) as { keys: object[] }).keys).toHaveLength(
      2,
    );
    await restart();
  });
});

describe("a standby KEK that a node has used while its clock was an hour ahead", () => {
  let standby: string;

  it("a used standby KEK is kept, also after the node's state directory was emptied", async () => {
    standby = await rotate("--activate-in", "30m");
    await restart(clockOff("+1h"));
    await waitFor(async () => (await callStatus()) === standby, { timeoutMs: 30_000, intervalMs: 50 });
    await restart();
    expect(await callStatus()).toBe(standby);
    expect((await destroy(standby)).stderr).toContain(`${standby} is active there`);

    await node.own.stop();
    rmSync(node.plugin.stateDir, { recursive: true });
    await restart();
    expect(await callStatus()).toBe(second);
    const { code, stderr } = await destroy(standby);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(
        /remembers only since .*, and the KEK was made at .*; so nothing shows .*--usage-report/,
      ),
    ]);
    expect((await destroy(standby, {}, ...live())).stderr).toContain(
      "API servers may still encrypt under the KEK; repeat the command after that",
    );
    // A claim from a time when the node's clock was behind proves nothing: the key existed already.
    await node.own.stop();
    node.plugin.remember({ since: Date.now() - HOUR_MS });
    await restart();
    expect((await destroy(standby)).stderr).toContain("the KEK was on its token when its memory began");
  });

  it("a used standby KEK is kept while etcd has an object under it, then destroyed", async () => {
    await storeObjectUnder(standby);
    const known = { ETCDCTL_ENDPOINTS: etcd.endpoint };
    await node.own.stop();
    node.plugin.remember({ since: Date.now() - HOUR_MS });
    await restart();
    expect(await published()).toBe(second);
    expect((await destroy(standby, known)).stderr).toContain("1 objects are under it (secrets)");
    await etcd.store.delete("/registry/secrets/ns/a");
    expect(await destroy(standby, known)).toMatchObject({ code: 0 });
  });
});

describe("a standby KEK that no node has used", () => {
  it("an unused standby KEK is kept only if a known etcd has an object under it", async () => {
    const standby = await rotate("--activate-in", "30m");
    await storeObjectUnder(standby);
    expect((await destroy(standby, { ETCDCTL_ENDPOINTS: etcd.endpoint })).stderr).toContain(
      "1 objects are under it (secrets)",
    );
    expect((await destroy(standby, {}, ...live())).stderr).toContain("1 objects are under it (secrets)");
    const nobody = `http://127.0.0.1:${await freePort()}`;
    expect((await destroy(standby, {}, "--endpoints", nobody)).code).toBe(3);
    expect(await destroy(standby, { ETCDCTL_ENDPOINTS: nobody })).toMatchObject({
      code: 0,
      stderr: expect.stringContaining("the etcd of ETCDCTL_ENDPOINTS was not searched") as string,
    });
  });
});

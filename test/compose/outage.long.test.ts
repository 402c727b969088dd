// A plugin process during an HSM outage and after it: Status, endpoints and requests.

import { existsSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";

import { expect, it } from "vitest";

import { FaultModule } from "../support/fault-module.js";
import { usePlugin } from "../support/plugin-fixture.js";
import type { PluginSettings } from "../support/plugin-process.js";
import type { ReachablePlugin } from "../support/reachable-plugin.js";
import { tokenUri } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const LONG = { timeoutMs: 30_000, intervalMs: 50 };

const kms = usePlugin({}, { token: { kek: true, faults: [] }, start: false });
/** Each test starts a plugin of its own, with nothing remembered. */
let one: ReachablePlugin;

async function start(settings: PluginSettings): Promise<void> {
  one = await kms.add({
    keys: { refreshInterval: "200ms" },
    hsm: { requestTimeout: "500ms", startTimeout: "2s" },
    ...settings,
  });
  await one.start();
}

const readyz = async (): Promise<number> => (await one.get("/readyz")).status;
const statusText = (): Promise<string> => one.client.status().then(({ healthz }) => healthz, String);

it("Status stays ok in the grace period; endpoints report the outage; no restart is needed", async () => {
  await start({ mode: "local-kek" });
  const { keyId } = await one.client.status();
  const sealed = await one.client.encrypt(Buffer.from("seed"), "before");
  kms.fault.set("device-error");
  await waitFor(async () => (await readyz()) === 503, LONG);
  expect(await one.client.status()).toMatchObject({ healthz: "ok", keyId });
  expect((await one.get("/livez")).status).toBe(200);
  expect((await one.client.decrypt(sealed, "away")).toString()).toBe("seed");
  expect((await one.client.encrypt(Buffer.from("seed"), "away")).keyId).toBe(keyId);
  kms.fault.clear();
  await waitFor(async () => (await readyz()) === 200, LONG);
});

it("Status fails or reports the reason after the grace period, as onHsmLoss says", async () => {
  await start({ health: { outageGracePeriod: "300ms" } });
  kms.fault.set("device-error");
  await waitFor(async () => /UNAVAILABLE: HSM away beyond its grace period/.test(await statusText()), LONG);
  kms.fault.clear();
  await waitFor(async () => (await statusText()) === "ok", LONG);
  await one.stop();
  await start({ health: { outageGracePeriod: "300ms", onHsmLoss: "keepWriting" } });
  const { keyId } = await one.client.status();
  kms.fault.set("device-error");
  await waitFor(async () => (await statusText()) !== "ok", LONG);
  expect((await one.client.status()).keyId).toBe(keyId);
});

it("an empty token counts as away if only the loaded library shows it empty", async () => {
  await start({});
  const sealed = await one.client.encrypt(Buffer.from("seed"), "before");
  const tokens = join(kms.token.folder, "tokens");
  renameSync(tokens, `${tokens}-away`);
  await waitFor(async () => (await readyz()) === 503, LONG);
  expect(await statusText()).toBe("ok");
  expect(one.plugin.log).not.toContain("KEK is gone");
  renameSync(`${tokens}-away`, tokens);
  await waitFor(async () => (await readyz()) === 200, LONG);
  expect((await one.client.decrypt(sealed, "after")).toString()).toBe("seed");
});

it("the plugin continues with the next of several tokens", async () => {
  const clone = new FaultModule(kms.token);
  await start({ failover: [{ uri: tokenUri(clone, "kms-kek") }] });
  const { keyId } = await one.client.status();
  kms.fault.set("device-error");
  const sealed = await waitFor(() => one.client.encrypt(Buffer.from("seed"), "failover"), LONG);
  expect(sealed.keyId).toBe(keyId);
  expect((await one.client.decrypt(sealed, "failover")).toString()).toBe("seed");
  expect(await readyz()).toBe(200);
  clone.remove();
});

it("after a restart without the first token, a clone without a fingerprint decrypts", async () => {
  const clone = new FaultModule(kms.token);
  clone.set("decrypt-only 0x1081,0x1082,0x1087");
  await start({ failover: [{ uri: tokenUri(clone, "kms-kek") }], cache: { entries: 0 } });
  const sealed = await one.client.encrypt(Buffer.from("seed"), "before");
  const stored = join(one.plugin.stateDir, "failover-keks.json");
  const hasCanary = (): boolean => existsSync(stored) && readFileSync(stored, "utf8").includes('"digest"');
  await waitFor(hasCanary, LONG);
  await one.stop();
  kms.fault.set("device-error");
  one.plugin.launch();
  const decrypted = (): Promise<string> =>
    one.client.decrypt(sealed, "after").then((seed) => seed.toString());
  expect(await waitFor(decrypted, LONG)).toBe("seed");
  kms.fault.clear();
  clone.remove();
});

// A plugin process during an HSM outage and after it: Status, endpoints and requests.

import { renameSync } from "node:fs";
import { join } from "node:path";

import { afterAll, afterEach, beforeAll, expect, it } from "vitest";

import { KmsClient } from "../../src/kms-client/kms-client.js";
import { freePort } from "../support/free-port.js";
import { FaultModule } from "../support/fault-module.js";
import { PluginProcess, type PluginSettings } from "../support/plugin-process.js";
import { createSoftHsmWithKek, type SoftHsm } from "../support/softhsm.js";
import { waitFor } from "../support/wait.js";

const LONG = { timeoutMs: 30_000, intervalMs: 50 };

let softHsm: SoftHsm;
let fault: FaultModule;
let plugin: PluginProcess;
let client: KmsClient;
let address: string;

beforeAll(() => {
  softHsm = createSoftHsmWithKek();
  fault = new FaultModule(softHsm);
});

afterEach(async () => {
  fault.clear();
  client.close();
  await plugin.stop();
  plugin.remove();
});

afterAll(() => {
  fault.remove();
  softHsm.remove();
});

async function start(settings: PluginSettings): Promise<void> {
  address = `127.0.0.1:${await freePort()}`;
  plugin = new PluginProcess(fault, {
    keys: { refreshInterval: "200ms" },
    hsm: { requestTimeout: "500ms", startTimeout: "2s" },
    http: { address },
    ...settings,
  });
  await plugin.start();
  client = new KmsClient(plugin.socket);
}

const readyz = async (): Promise<number> => (await fetch(`http://${address}/readyz`)).status;
const statusText = (): Promise<string> => client.status().then(({ healthz }) => healthz, String);

it("Status stays ok in the grace period; endpoints report the outage; no restart is needed", async () => {
  await start({ mode: "local-kek" });
  const { keyId } = await client.status();
  const sealed = await client.encrypt(Buffer.from("seed"), "before");
  fault.set("device-error");
  await waitFor(async () => (await readyz()) === 503, LONG);
  expect(await client.status()).toMatchObject({ healthz: "ok", keyId });
  expect((await fetch(`http://${address}/livez`)).status).toBe(200);
  expect((await client.decrypt(sealed, "away")).toString()).toBe("seed");
  expect((await client.encrypt(Buffer.from("seed"), "away")).keyId).toBe(keyId);
  fault.clear();
  await waitFor(async () => (await readyz()) === 200, LONG);
});

it("Status fails or reports the reason after the grace period, as onHsmLoss says", async () => {
  await start({ health: { outageGracePeriod: "300ms" } });
  fault.set("device-error");
  await waitFor(async () => /UNAVAILABLE: HSM away beyond its grace period/.test(await statusText()), LONG);
  fault.clear();
  await waitFor(async () => (await statusText()) === "ok", LONG);
  client.close();
  await plugin.stop();
  plugin.remove();
  await start({ health: { outageGracePeriod: "300ms", onHsmLoss: "keepWriting" } });
  const { keyId } = await client.status();
  fault.set("device-error");
  await waitFor(async () => (await statusText()) !== "ok", LONG);
  expect((await client.status()).keyId).toBe(keyId);
});

it("an empty token counts as away if only the loaded library shows it empty", async () => {
  await start({});
  const sealed = await client.encrypt(Buffer.from("seed"), "before");
  const tokens = join(softHsm.folder, "tokens");
  renameSync(tokens, `${tokens}-away`);
  await waitFor(async () => (await readyz()) === 503, LONG);
  expect(await statusText()).toBe("ok");
  expect(plugin.log).not.toContain("KEK is gone");
  renameSync(`${tokens}-away`, tokens);
  await waitFor(async () => (await readyz()) === 200, LONG);
  expect((await client.decrypt(sealed, "after")).toString()).toBe("seed");
});

it("the plugin continues with the next of several tokens", async () => {
  const clone = new FaultModule(softHsm);
  const uri = (token: { modulePath: string }, label: string): string =>
    `pkcs11:token=${label};object=kms-kek?module-path=${token.modulePath}&pin-source=file:${softHsm.pinFile}`;
  await start({ failover: [{ uri: uri(clone, softHsm.label) }] });
  const { keyId } = await client.status();
  fault.set("device-error");
  const sealed = await waitFor(() => client.encrypt(Buffer.from("seed"), "failover"), LONG);
  expect(sealed.keyId).toBe(keyId);
  expect((await client.decrypt(sealed, "failover")).toString()).toBe("seed");
  expect(await readyz()).toBe(200);
  clone.remove();
});

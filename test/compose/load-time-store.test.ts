// A plugin whose library reads its store only when it is loaded, as a TPM's does. A destroyed standby KEK is not used.
// Once the plugin has detected this kind of library, it soon shows new and destroyed KEKs.

import { afterAll, beforeAll, expect, it } from "vitest";

import { KmsClient } from "../../src/kms-client/kms-client.js";
import { FaultModule } from "../support/fault-module.js";
import { freePort } from "../support/free-port.js";
import { runCommand } from "../support/command.js";
import { PluginProcess } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { tokenUri } from "../support/token.js";
import { waitFor } from "../support/wait.js";

let token: SoftHsm;
let fault: FaultModule;
let plugin: PluginProcess;
let address: string;

beforeAll(async () => {
  token = createSoftHsm();
  fault = new FaultModule(token);
  fault.set("store-at-load");
  address = `127.0.0.1:${await freePort()}`;
  plugin = new PluginProcess(fault, { keys: { refreshInterval: "500ms" }, http: { address } });
});

afterAll(async () => {
  await plugin.stop();
  plugin.remove();
  fault.remove();
  token.remove();
});

async function keys(...args: string[]): Promise<Record<string, unknown>> {
  const uri = tokenUri(fault, "kms-kek");
  const { code, stdout, stderr } = await runCommand(["keys", ...args, "--key", uri, "-o", "json"], fault.env);
  expect([code, stderr]).toEqual([0, expect.not.stringContaining("kms-pkcs11:")]);
  return JSON.parse(stdout) as Record<string, unknown>;
}
const listed = async (): Promise<string[]> => {
  const url = `http://${address}/keys`;
  const response = await fetch(url, { headers: { connection: "close" } });
  return ((await response.json()) as { keys: { keyId: string }[] }).keys.map(({ keyId }) => keyId);
};

const made = async (...args: string[]): Promise<{ keyId: string }> =>
  (await keys(...args))["created"] as { keyId: string };

it("reloads the library at an activation, before it would use the KEK", async () => {
  const { keyId: active } = await made("create");
  const rotation = await keys("rotate", "--activate-in", "30s");
  const { keyId: standby } = rotation["created"] as { keyId: string };
  await plugin.start();
  expect(await listed()).toEqual([standby, active]);
  await keys("destroy", standby, "--i-understand-data-is-lost", standby);
  const instant = Date.parse(rotation["activation"] as string);
  const client = new KmsClient(plugin.socket);
  const used = new Set<string>();
  await waitFor(
    async () => {
      used.add((await client.status()).keyId);
      used.add((await client.encrypt(Buffer.alloc(32), "any")).keyId);
      return Date.now() > instant && !(await listed()).includes(standby);
    },
    { timeoutMs: 60_000, intervalMs: 100 },
  );
  client.close();
  expect([...used]).toEqual([active]);
});

it("shows a KEK that is made or destroyed later within a few refresh intervals", async () => {
  const { keyId } = await made("rotate", "--activate-in", "1h");
  const limit = { timeoutMs: 25_000, intervalMs: 100 };
  await waitFor(async () => (await listed()).includes(keyId), { what: "the new KEK", ...limit });
  await keys("destroy", keyId, "--i-understand-data-is-lost", keyId);
  await waitFor(async () => !(await listed()).includes(keyId), { what: "the end of the KEK", ...limit });
});

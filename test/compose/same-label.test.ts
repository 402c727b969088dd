// Two keys that another tool made under the plain label: neither is active until the configuration names one.

import { randomBytes } from "node:crypto";

import { afterAll, beforeAll, expect, it } from "vitest";

import { KmsClient } from "../../src/kms-client/kms-client.js";
import { freePort } from "../support/free-port.js";
import { Pkcs11Client } from "../support/pkcs11-client.js";
import { PluginProcess } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { waitFor } from "../support/wait.js";

let token: SoftHsm;
let twins: PluginProcess;
let client: KmsClient;
let address: string;
let url: string;

beforeAll(async () => {
  token = createSoftHsm();
  address = `127.0.0.1:${await freePort()}`;
  url = `http://${address}`;
  twins = new PluginProcess(token, { http: { address } }, "twins");
  client = new KmsClient(twins.socket, 20_000);
});

afterAll(async () => {
  client.close();
  await twins.stop();
  twins.remove();
  token.remove();
});

it("two keys under one plain label are an error that names both, until keys.active decides", async () => {
  const child = new Pkcs11Client(token);
  await child.open();
  await child.run(({ p11, state }) => {
    state.makeKey({ [p11.CKA_LABEL]: "twins", [p11.CKA_ID]: Buffer.of(1) });
    state.makeKey({ [p11.CKA_LABEL]: "twins", [p11.CKA_ID]: Buffer.of(2) });
  });
  await child.kill();
  twins.launch();
  const refusal = await waitFor(
    async () => {
      const text = await client.status().then(String, String);
      return text.includes("several keys") ? text : undefined;
    },
    { timeoutMs: 20_000 },
  );
  const [one = "", two = ""] = refusal.match(/0[12]\.c[0-9a-f]{32}/g) ?? [];
  expect([one.slice(0, 2), two.slice(0, 2)].sort()).toEqual(["01", "02"]);
  expect(refusal).toMatch(/FAILED_PRECONDITION.*set keys\.active/);
  await expect(client.encrypt(randomBytes(32), "u")).rejects.toThrow(/FAILED_PRECONDITION/);

  const ready = await fetch(`${url}/readyz`);
  expect([ready.status, await ready.text()]).toEqual([503, expect.stringContaining("several keys")]);
  expect((await fetch(`${url}/livez`)).status).toBe(200);

  await twins.stop();
  twins.configure({ http: { address }, keys: { active: two } }, "twins");
  await twins.start();
  expect((await client.status()).keyId).toBe(two);
});

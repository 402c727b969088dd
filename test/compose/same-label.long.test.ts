// Two keys that another tool made under the plain label: neither is active until the configuration names one.

import { randomBytes } from "node:crypto";

import { expect, it } from "vitest";

import { Pkcs11Client } from "../support/pkcs11-client.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { waitFor } from "../support/wait.js";

const kms = usePlugin({}, { token: {}, object: "twins", start: false });

it("two keys under one plain label are an error that names both, until keys.active decides", async () => {
  const child = new Pkcs11Client(kms.token);
  await child.open();
  await child.run(({ p11, state }) => {
    state.makeKey({ [p11.CKA_LABEL]: "twins", [p11.CKA_ID]: Buffer.of(1) });
    state.makeKey({ [p11.CKA_LABEL]: "twins", [p11.CKA_ID]: Buffer.of(2) });
  });
  await child.kill();
  kms.plugin.launch();
  const refusal = await waitFor(
    async () => {
      const text = await kms.client.status().then(String, String);
      return text.includes("several keys") ? text : undefined;
    },
    { timeoutMs: 20_000 },
  );
  const [one = "", two = ""] = refusal.match(/0[12]\.c[0-9a-f]{32}/g) ?? [];
  expect([one.slice(0, 2), two.slice(0, 2)].sort()).toEqual(["01", "02"]);
  expect(refusal).toMatch(/FAILED_PRECONDITION.*set keys\.active/);
  await expect(kms.client.encrypt(randomBytes(32), "u")).rejects.toThrow(/FAILED_PRECONDITION/);

  const ready = await kms.own.get("/readyz");
  expect([ready.status, await ready.text()]).toEqual([503, expect.stringContaining("several keys")]);
  expect((await kms.own.get("/livez")).status).toBe(200);

  await kms.own.restart({ keys: { active: two } });
  expect((await kms.client.status()).keyId).toBe(two);
});

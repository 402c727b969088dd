// A plugin whose library reads its store only when it is loaded, as a TPM's does. A destroyed standby KEK is not used.
// Once the plugin has detected this kind of library, it soon shows new and destroyed KEKs.

import { expect, it } from "vitest";

import { runCommand } from "../support/command.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { tokenUri } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const kms = usePlugin(
  { keys: { refreshInterval: "500ms" }, hsm: {} },
  { token: { faults: ["store-at-load"] }, start: false },
);

async function keys(...args: string[]): Promise<Record<string, unknown>> {
  const uri = tokenUri(kms.fault, "kms-kek");
  const { code, stdout, stderr } = await runCommand(
    ["keys", ...args, "--key", uri, "-o", "json"],
    kms.fault.env,
  );
  expect([code, stderr]).toEqual([0, expect.not.stringContaining("kms-pkcs11:")]);
  return JSON.parse(stdout) as Record<string, unknown>;
}
const listed = async (): Promise<string[]> => {
  const response = await kms.own.get("/keys");
  return ((await response.json()) as { keys: { keyId: string }[] }).keys.map(({ keyId }) => keyId);
};

const made = async (...args: string[]): Promise<{ keyId: string }> =>
  (await keys(...args))["created"] as { keyId: string };

it("the plugin reloads the library at an activation, before it would use the KEK", async () => {
  const { keyId: active } = await made("create");
  const rotation = await keys("rotate", "--activate-in", "40s");
  const { keyId: standby } = rotation["created"] as { keyId: string };
  await kms.own.start();
  expect(await listed()).toEqual([standby, active]);
  await keys("destroy", standby, "--i-understand-data-is-lost", standby);
  const instant = Date.parse(rotation["activation"] as string);
  const used = new Set<string>();
  await waitFor(
    async () => {
      used.add((await kms.client.status()).keyId);
      used.add((await kms.client.encrypt(Buffer.alloc(32), "any")).keyId);
      return Date.now() > instant && !(await listed()).includes(standby);
    },
    { timeoutMs: 60_000, intervalMs: 100 },
  );
  expect([...used]).toEqual([active]);
});

it("the plugin shows a KEK that is made or destroyed later within a few refresh intervals", async () => {
  const { keyId } = await made("rotate", "--activate-in", "1h");
  const limit = { timeoutMs: 25_000, intervalMs: 100 };
  await waitFor(async () => (await listed()).includes(keyId), { what: "the new KEK", ...limit });
  await keys("destroy", keyId, "--i-understand-data-is-lost", keyId);
  await waitFor(async () => !(await listed()).includes(keyId), { what: "the end of the KEK", ...limit });
});

// The whole life cycle on a token like the YubiHSM 2: it makes token objects only, chooses the length and the id of a
// key, cannot read the type of an HMAC key, has no AES-GCM, and offers few sessions to all processes together.

import { expect, it } from "vitest";

import type { FaultModule } from "../support/fault-module.js";
import { runCommand } from "../support/command.js";
import { usePlugin } from "../support/plugin-fixture.js";
import type { CommandResult } from "../support/plugin-process.js";
import { waitFor } from "../support/wait.js";

const SEED = Buffer.from("a DEK seed of thirty-two bytes!!");
const LIMIT = { timeoutMs: 40_000, intervalMs: 50 };

const faults = (fault: FaultModule): string[] => [
  "refuse-attribute 0x1 0x13 0", // CKA_TOKEN=false
  "refuse-attribute 0x161 0x12", // CKA_VALUE_LEN
  "unreadable-attribute 0x100 0x6", // CKA_KEY_TYPE
  "id-limit 2",
  "label-limit 40",
  `session-limit 16 ${fault.path("sessions")}`,
  "no-mechanism 0x1087,0x2109,0x210A,0x210B",
  // Slow enough for the plugin to open more sessions.
  "C_Sign sleep 2",
];
const kms = usePlugin(
  { keys: { refreshInterval: "500ms" }, hsm: {}, cache: { entries: 0 } },
  { token: { faults }, start: false },
);

const run = (...args: string[]): Promise<CommandResult> =>
  runCommand([...args, "--config", kms.plugin.configFile, "-o", "json"], kms.fault.env);
const made = ({ code, stdout, stderr }: CommandResult): { keyId: string; kind: string; label: string } => {
  expect([code, stderr]).toEqual([0, expect.not.stringContaining("kms-pkcs11:")]);
  return (JSON.parse(stdout) as { created: { keyId: string; kind: string; label: string } }).created;
};

it("on a token like YubiHSM, every command works and leaves no key of a trial", async () => {
  const first = made(await run("keys", "create"));
  expect(first).toMatchObject({ kind: "hmac", keyId: expect.stringMatching(/^[0-9a-f]{4}\.s/) as string });
  await kms.own.start();
  expect((await kms.client.status()).keyId).toBe(first.keyId);
  const sealed = await kms.client.encrypt(SEED, "uid");
  await Promise.all(Array.from({ length: 64 }, () => kms.client.decrypt(sealed, "uid")));

  const checked = await run("check");
  expect([checked.code, checked.stdout]).toEqual([0, expect.stringContaining("hmac-kdf: round trip done")]);
  const second = made(await run("keys", "rotate", "--activate-in", "2s"));
  await waitFor(async () => (await kms.client.status()).keyId === second.keyId, {
    what: "the switch",
    ...LIMIT,
  });
  expect(Buffer.from(await kms.client.decrypt(sealed, "uid"))).toEqual(SEED);
  expect((await kms.client.encrypt(SEED, "uid")).keyId).toBe(second.keyId);

  const standby = made(await run("keys", "rotate", "--activate-in", "1h"));
  expect(
    (await run("keys", "destroy", standby.keyId, "--i-understand-data-is-lost", standby.keyId)).code,
  ).toBe(0);
  const listed = JSON.parse((await run("keys", "list")).stdout) as { keys: { keyId: string }[] };
  expect(listed.keys.map(({ keyId }) => keyId)).toEqual([second.keyId, first.keyId]);
});

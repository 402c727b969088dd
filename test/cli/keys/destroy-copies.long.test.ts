// `keys destroy` warns of other keys on the token that hold the value of the KEK: they are not destroyed with it.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import type { KeysDestroyOutput } from "../../../src/cli/output-schema/keys.js";
import { runCommand } from "../../support/command.js";
import { Pkcs11Client } from "../../support/pkcs11-client.js";
import { usePlugin } from "../../support/plugin-fixture.js";

const OLD = "kms-kek@20250101T000000Z";

/** Never started; only its configuration file is used. */
const kms = usePlugin(({ plugin }) => ({ audit: { file: join(plugin.folder, "audit.log") } }), {
  token: { kek: false },
  start: false,
});

const keys = (...args: string[]): ReturnType<typeof runCommand> =>
  runCommand(["keys", ...args, "--config", kms.plugin.configFile, "-o", "json"], kms.token.env);

/** Makes a retired KEK, the active one, two copies of the retired one, and a key of another application. */
async function makeKeys(): Promise<void> {
  const client = new Pkcs11Client(kms.token);
  await client.open();
  await client.run(({ p11, module, state }, old) => {
    const named = (label: string, id: number): Record<number, unknown> => ({
      [p11.CKA_LABEL]: label,
      [p11.CKA_ID]: Buffer.from([id]),
    });
    const retired = state.makeKey(named(old, 1));
    state.makeKey(named("kms-kek@20260101T000000Z", 2));
    state.makeKey(named("another application", 1));
    for (const [label, id] of [
      ["kms-kek@20240101T000000Z", 3],
      ["backup", 4],
    ] as const) {
      module.C_CopyObject(state.session, retired, [
        { type: p11.CKA_LABEL, value: label },
        { type: p11.CKA_ID, value: Buffer.from([id]) },
      ]);
    }
  }, OLD);
  await client.exit();
}

it("'keys destroy' names the keys that hold a copy of the KEK, and destroys none of them", async () => {
  await makeKeys();
  const { keys: listed } = JSON.parse((await keys("list")).stdout) as { keys: Record<string, string>[] };
  const keyId = listed.find(({ label }) => label === OLD)?.["keyId"] ?? "";
  const { code, stdout, stderr } = await keys("destroy", keyId, "--i-understand-data-is-lost", keyId);
  expect(code, stderr).toBe(0);
  const { destroyed } = JSON.parse(stdout) as KeysDestroyOutput;
  const copies = [
    { label: "backup", ckaId: "04", sign: "check value" },
    { label: "kms-kek@20240101T000000Z", ckaId: "03", sign: "fingerprint" },
  ];
  expect(destroyed.copies).toHaveLength(2);
  expect(destroyed.copies).toEqual(
    expect.arrayContaining(copies.map((copy) => expect.objectContaining(copy) as unknown)),
  );
  expect(stderr).toContain('"backup" (CKA_ID 04)');
  expect(stderr).toContain("has its check value, so it is probably a copy, and can decrypt what is under it");
  const audit = readFileSync(join(kms.plugin.folder, "audit.log"), "utf8");
  expect(audit).toMatch(/"copies":"[^}]*backup/);
  const { keys: left } = JSON.parse((await keys("list")).stdout) as { keys: Record<string, string>[] };
  expect(left.map(({ label }) => label).sort()).toEqual([
    "kms-kek@20240101T000000Z",
    "kms-kek@20260101T000000Z",
  ]);
});

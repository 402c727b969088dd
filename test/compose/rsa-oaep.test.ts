// A plugin on a token that offers RSA only, from `keys create` to a restart, in both modes.

import { randomBytes } from "node:crypto";

import { afterAll, beforeAll, expect, it } from "vitest";

import { KmsClient } from "../../src/kms-client/kms-client.js";
import { FaultModule } from "../support/fault-module.js";
import { runCommand } from "../support/command.js";
import { PluginProcess } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { tokenUri } from "../support/token.js";

let softHsm: SoftHsm;
let fault: FaultModule;

beforeAll(async () => {
  softHsm = createSoftHsm();
  fault = new FaultModule(softHsm);
  fault.set("only-mechanisms 0x0,0x9,0x43");
  const key = tokenUri(fault, "kms-kek");
  const made = await runCommand(
    ["keys", "create", "--key", key, "--mechanism", "rsa-oaep", "-o", "json"],
    fault.env,
  );
  expect(made.code, made.stderr).toBe(0);
  expect(JSON.parse(made.stdout)).toMatchObject({ created: { kind: "rsa" } });
});

afterAll(() => {
  fault.remove();
  softHsm.remove();
});

it.each(["direct", "local-kek"] as const)(
  "a plugin serves an RSA KEK in mode %s, also after a restart",
  async (mode) => {
    const plugin = new PluginProcess(fault, { mode, mechanism: "auto", cache: { entries: 0 } });
    const client = new KmsClient(plugin.socket);
    try {
      await plugin.start();
      const seed = randomBytes(32);
      const made = await client.encrypt(seed, "one");
      expect(made.ciphertext.length).toBeLessThanOrEqual(1023);
      expect(Object.values(made.annotations).map((value) => value.length)).toEqual(
        mode === "direct" ? [] : [770],
      );
      await plugin.stop();
      await plugin.start();
      expect((await client.decrypt(made, "two")).equals(seed)).toBe(true);
      expect((await client.status()).keyId).toBe(made.keyId);
    } finally {
      client.close();
      await plugin.stop();
      plugin.remove();
    }
  },
);

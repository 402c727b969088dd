// A plugin on a token that offers RSA only, from `keys create` to a restart, in both modes.

import { randomBytes } from "node:crypto";

import { expect, it } from "vitest";

import { runCommand } from "../support/command.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { tokenUri } from "../support/token.js";

const kms = usePlugin(
  {},
  {
    token: { faults: ["only-mechanisms 0x0,0x9,0x43"] },
    start: false,
    async prepare({ fault }) {
      const key = tokenUri(fault, "kms-kek");
      const made = await runCommand(
        ["keys", "create", "--key", key, "--mechanism", "rsa-oaep", "-o", "json"],
        fault.env,
      );
      expect(made.code, made.stderr).toBe(0);
      expect(JSON.parse(made.stdout)).toMatchObject({ created: { kind: "rsa" } });
    },
  },
);

it.each(["direct", "local-kek"] as const)(
  "a plugin serves an RSA KEK in mode %s, also after a restart",
  async (mode) => {
    const serving = await kms.add({ mode, mechanism: "auto", cache: { entries: 0 } });
    await serving.start();
    const seed = randomBytes(32);
    const made = await serving.client.encrypt(seed, "one");
    expect(made.ciphertext.length).toBeLessThanOrEqual(1023);
    expect(Object.values(made.annotations).map((value) => value.length)).toEqual(
      mode === "direct" ? [] : [770],
    );
    await serving.restart();
    expect((await serving.client.decrypt(made, "two")).equals(seed)).toBe(true);
    expect((await serving.client.status()).keyId).toBe(made.keyId);
  },
);

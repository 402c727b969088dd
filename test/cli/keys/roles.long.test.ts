// Two logins: the plugin's may use keys but not make or destroy them, and the commands that change KEKs have their own.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, it } from "vitest";

import { runCommand } from "../../support/command.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import type { CommandResult } from "../../support/plugin-process.js";
import { makeFolder, writePinFile } from "../../support/token.js";

const PIN = "administrator-7261";
const ROLE_PIN = "user-of-keys-5512";

interface Finding {
  readonly verdict: string;
  readonly subject: string;
  readonly detail: string;
}

describe.each([
  { name: "another PIN of the same user type", type: "0x1", login: {}, role: "user" },
  {
    name: "a user type of the vendor's",
    type: "0x80000001",
    login: { role: "crypto-user" },
    role: "crypto-user",
  },
  { name: "a user type by its number", type: "0x80000013", login: { role: 0x8000_0013 }, role: "0x80000013" },
])("a serving login with $name", ({ type, login, role }) => {
  const kms = usePlugin(
    {},
    { token: { pin: PIN, faults: [`role ${type} ${ROLE_PIN} ${PIN} 0x1B`] }, start: false },
  );

  const run = async (...args: string[]): Promise<CommandResult> => {
    const result = await runCommand(
      [...args, "--config", kms.plugin.configFile, "-o", "json"],
      kms.fault.env,
    );
    expect(result.stdout + result.stderr).not.toContain(PIN);
    expect(result.stdout + result.stderr).not.toContain(ROLE_PIN);
    return result;
  };
  const rights = async (): Promise<string[]> =>
    (JSON.parse((await run("check")).stdout) as { findings: Finding[] }).findings
      .filter(({ subject }) => subject === "rights")
      .map(({ verdict, detail }) => `${verdict} ${detail}`);

  it("a serving login cannot change KEKs, and check says so; the administrator's login can", async () => {
    const { plugin, token } = kms;
    const pin = { file: writePinFile(plugin.folder, ROLE_PIN, "serving") };
    kms.own.configure({ pin, login });
    const refused = await run("keys", "create");
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("CKR_ACTION_PROHIBITED")]);

    kms.own.configure({ pin, login, admin: { file: token.pinFile } });
    const made = await run("keys", "create");
    expect([made.code, made.stderr]).toEqual([0, expect.not.stringContaining("kms-pkcs11:")]);
    await kms.own.start();
    expect(plugin.log).toContain(`the administrator's PIN is on this node (file ${token.pinFile})`);
    expect((await run("check")).code).toBe(0);
    expect(await rights()).toEqual([
      `ok role ${role} may not make keys: enforced by the token`,
      `ok role ${role} may not import keys: enforced by the token`,
      expect.stringContaining(`ok role ${role} may perhaps destroy keys`) as string,
    ]);
    expect((await run("keys", "list")).code).toBe(0);
    expect((await run("keys", "rotate", "--activate-in", "1h")).code).toBe(0);

    // The plugin's PIN is the administrator's.
    kms.own.configure({ pin: { file: token.pinFile }, admin: { file: token.pinFile } });
    expect(await rights()).toContainEqual(
      expect.stringMatching(/^warn role user may make keys.*too powerful; set login\.role/),
    );
  });
});

it("an unknown role and two sources of the administrator's PIN are configuration errors", async () => {
  const folder = makeFolder("roles");
  const path = join(folder, "config.yaml");
  const head = "apiVersion: kms-pkcs11.dev/v1\nkind: PluginConfiguration\n";
  const logins = "login: { role: officer }\nadmin: { file: /run/pin, env: PIN }\n";
  writeFileSync(path, `${head}${logins}keys: { uri: "pkcs11:token=kms;object=kek?module-path=/lib/x.so" }\n`);
  const { code, stderr } = await runCommand(["keys", "list", "--config", path]);
  expect([code, stderr]).toEqual([
    2,
    expect.stringMatching(
      /login\.role: is "officer"; give user, crypto-user.*admin: gives file and env; keep one/s,
    ),
  ]);
  rmSync(folder, { recursive: true });
});

// Names that occur twice by mistake, in the configuration or on the token: `keys rotate` and `keys destroy` refuse what is
// ambiguous and say what to do, and a key_id always names one key.

import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ClustersPlugin } from "../../support/clusters-plugin.js";
import { runCommand } from "../../support/command.js";
import { Pkcs11Client } from "../../support/pkcs11-client.js";
import type { CommandResult } from "../../support/plugin-process.js";
import { useToken } from "../../support/token-fixture.js";
import { tokenUri } from "../../support/token.js";

const LOST = "--i-understand-data-is-lost";
const RETIRED = `01.c${"0".repeat(32)}`;

const hsm = useToken();
let kms: ClustersPlugin;

beforeAll(async () => {
  kms = await ClustersPlugin.on(hsm.token);
  const client = new Pkcs11Client(hsm.token);
  await client.open();
  await client.run(({ p11, state }) => {
    for (const [label, id] of [
      ["plain", 1],
      ["plain", 2],
      ["dated@20250101T000000Z", 1],
      ["dated@20250101T000000Z", 2],
      ["dated@20260101T000000Z", 3],
    ] as const) {
      state.makeKey({ [p11.CKA_LABEL]: label, [p11.CKA_ID]: Buffer.from([id]) });
    }
  });
  await client.exit();
});
afterAll(() => kms.remove());

const keys = (...args: string[]): Promise<CommandResult> => runCommand(["keys", ...args], hsm.token.env);
const of = (name: string): string[] => ["--key", tokenUri(hsm.token, name)];

/** Returns the key_ids under a name, by the first byte of their CKA_ID. */
async function keyIds(name: string): Promise<Record<string, string>> {
  const { stdout } = await keys("list", "-o", "json", ...of(name));
  const { keys: listed } = JSON.parse(stdout) as { keys: { keyId: string }[] };
  return Object.fromEntries(listed.map(({ keyId }) => [keyId.slice(0, 2), keyId]));
}

/** Expects that a configuration with several clusters is refused by both commands, with this message. */
async function expectRefused(cluster: string, message: string): Promise<void> {
  const named = ["--cluster", cluster, "--config", kms.plugin.configFile];
  for (const args of [["rotate"], ["destroy", RETIRED, LOST, RETIRED]]) {
    const { code, stderr } = await keys(...args, ...named);
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)]);
  }
}

it("two clusters that name one KEK are refused by 'keys rotate' and 'keys destroy'", async () => {
  kms.configure({ alpha: {}, beta: { keys: { uri: tokenUri(hsm.token, "alpha") } } });
  await expectRefused("beta", "may name the KEK of cluster alpha");
  await expectRefused("beta", "give object=NAME another name");
});

it("a cluster that is configured twice is refused by 'keys rotate' and 'keys destroy'", async () => {
  kms.configure({ alpha: {}, beta: {} });
  const document = readFileSync(kms.plugin.configFile, "utf8");
  writeFileSync(kms.plugin.configFile, document.replace("name: beta", "name: alpha"));
  await expectRefused("alpha", "is the name of another cluster, alpha; give each its own");
});

it("two keys with one label and no instant are ambiguous until keys.active names one", async () => {
  const { "01": first = "", "02": second = "" } = await keyIds("plain");
  for (const args of [["rotate"], ["destroy", first, LOST, first]]) {
    const { code, stderr } = await keys(...args, ...of("plain"));
    expect([code, stderr]).toEqual([1, expect.stringContaining('several keys are labelled "plain"')]);
    expect(stderr).toContain("set keys.active to the one to encrypt with");
  }
  expect(await keyIds("plain")).toEqual({ "01": first, "02": second });
});

it("of two retired keys with one label, 'keys destroy' destroys the one with the key_id", async () => {
  const before = await keyIds("dated");
  const keyId = before["02"] ?? "";
  const byLabel = await keys("destroy", "dated@20250101T000000Z", LOST, keyId, ...of("dated"));
  expect([byLabel.code, (await keys("destroy", keyId, LOST, keyId, ...of("dated"))).code]).toEqual([2, 0]);
  expect(await keyIds("dated")).toEqual({ "01": before["01"], "03": before["03"] });
});

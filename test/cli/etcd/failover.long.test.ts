// The `etcd` commands with several tokens of which one does not decrypt, or none is usable.
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startEtcd, type TestEtcd } from "../../support/etcd.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import type { PluginProcess } from "../../support/plugin-process.js";
import { SoftHsmClone } from "../../support/softhsm-clone.js";
import { makeFolder, tokenUri } from "../../support/token.js";
import { etcdCommands, key, SECRET, stockEtcd } from "./stocked-etcd.js";

const kms = usePlugin({}, { token: { kek: true, faults: [] }, start: false });
let etcd: TestEtcd;
/** A configuration with the fault module's token first and a clone second. */
let both: PluginProcess;

beforeAll(async () => {
  etcd = await startEtcd();
  await stockEtcd(etcd, kms.own);
  const failover = [{ uri: tokenUri(new SoftHsmClone(kms.token, "other"), "kms-kek") }];
  const audit = { file: join(makeFolder("etcd-failover"), "audit.log") };
  ({ plugin: both } = await kms.add({ failover, audit }));
});

afterAll(() => etcd.remove());

const { run, runRaw } = etcdCommands(() => ({ ...kms.token.env, ETCDCTL_ENDPOINTS: etcd.endpoint }));
const absent = (): string => tokenUri({ ...kms.token, label: "none" }, "kms-kek");

describe("with several tokens", () => {
  const asking = "using pkcs11:token=other;object=kms-kek";

  it("the next token decrypts if the preferred one cannot, from the start or later", async () => {
    kms.fault.set("C_DecryptInit rv 0x32");
    const failing = await run("verify", "--config", both.configFile);
    expect(failing).toMatchObject({ code: 0, stderr: "" });
    expect(failing.stdout).toMatch(/^secrets +303 +302 +0 +1 +0$/m);
    expect(kms.fault.calls("C_DecryptInit")).toBeGreaterThan(0);
    kms.fault.set("C_OpenSession rv 0x30");
    const away = await run("verify", "--config", both.configFile);
    expect(away).toMatchObject({ code: 0, stderr: expect.stringContaining(asking) as string });
    expect(away.stdout).toContain("304 objects, 3 DEK seeds decrypted by the HSM");
    const shown = await runRaw("get", key("local"), "--config", both.configFile, "--break-glass", "INC-2");
    expect(shown).toMatchObject({
      code: 0,
      stdout: SECRET,
      stderr: expect.stringContaining(asking) as string,
    });
  });

  it("etcd verify exits with 3 and names every token if none is usable", async () => {
    kms.fault.set("C_OpenSession rv 0x30");
    both.configure({ failover: [{ uri: absent() }] });
    const { code, stderr } = await run("verify", "--config", both.configFile);
    expect([code, stderr]).toEqual([3, expect.stringMatching(/token=kms;object=kms-kek: .*\n.*token=none;/)]);
  });
});

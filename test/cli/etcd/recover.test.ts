// `etcd recover` as an operator runs it, on a real etcd with objects as API servers store them: what it lists, with which
// cause, and what it never calls unreadable.
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { EtcdRecoverOutput } from "../../../src/cli/output-schema/etcd-recover.js";
import { formatStoredObject } from "../../e2e/harness/stored-object.js";
import { runCommand } from "../../support/command.js";
import { startEtcd, type TestEtcd } from "../../support/etcd.js";
import { FakeNodes, standby } from "../../support/fake-nodes.js";
import { freePort } from "../../support/free-port.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import type { CommandResult, PluginProcess } from "../../support/plugin-process.js";
import { SoftHsmClone } from "../../support/softhsm-clone.js";
import { sealedObject, sealedValue, type StoredSeed } from "../../support/stored-secrets.js";
import { makeFolder, tokenUri } from "../../support/token.js";
import { key, SECRET, stockEtcd } from "./stocked-etcd.js";

let etcd: TestEtcd;
const kms = usePlugin({}, { token: { kek: true, faults: [] }, start: false });
/** A configuration with the fault module's token second and a clone first. */
let both: PluginProcess;
let seed: StoredSeed;
let keyId: string;
const nodes = new FakeNodes();
/** The key_id of no KEK in this test. */
const OTHER = `${"07".repeat(16)}.c${"0".repeat(32)}`;
const bad = (name: string): string => key(name, "bad");
/** No KEK encrypts: AES-GCM and AES-KWP decrypt only. */
const DECRYPT_ONLY = "decrypt-only 0x1087,0x210a,0x210b";

/** One object of each kind that cannot be decrypted. */
function badObjects(): Record<string, Buffer> {
  const good = sealedObject(seed, bad("x"), SECRET);
  return {
    envelope: Buffer.from("k8s:enc:kms:v2:hsm:junk"),
    junk: Buffer.from("junk"),
    moved: sealedValue(seed, key("elsewhere"), SECRET),
    seed: formatStoredObject({ ...good, encryptedDekSource: flipped(good.encryptedDekSource) }),
    unknown: formatStoredObject({ ...good, keyId: OTHER }),
  };
}

function flipped(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  const last = copy.length - 1;
  copy.writeUInt8(copy.readUInt8(last) ^ 1, last);
  return copy;
}

beforeAll(async () => {
  etcd = await startEtcd();
  seed = await stockEtcd(etcd, kms.own);
  ({ keyId } = seed.encrypted);
  await etcd.store.putAll(Object.entries(badObjects()).map(([name, value]) => [bad(name), value]));
  const clone = new SoftHsmClone(kms.token, "other");
  const failover = [{ uri: tokenUri(clone, "kms-kek") }];
  const audit = { file: join(makeFolder("recover"), "audit.log") };
  ({ plugin: both } = await kms.add({ failover, audit }));
});

beforeEach(() => {
  kms.fault.set();
});

afterAll(async () => {
  nodes.close();
  await etcd.remove();
});

const recover = async (...args: string[]): Promise<CommandResult> => {
  const command = ["etcd", "recover", "--config", kms.plugin.configFile, ...args];
  const result = await runCommand(command, { ...kms.token.env, ETCDCTL_ENDPOINTS: etcd.endpoint });
  expect(result.stdout + result.stderr).not.toContain(SECRET);
  return result;
};

const list = async (...args: string[]): Promise<EtcdRecoverOutput> => {
  const { stdout, stderr } = await recover("-o", "json", ...args);
  expect(stdout, stderr).not.toBe("");
  return JSON.parse(stdout) as EtcdRecoverOutput;
};

const causes = async (...args: string[]): Promise<Record<string, string>> => {
  const { findings } = await list(...args);
  return Object.fromEntries(findings.map(({ key, cause }) => [key.replace(/.*\//, ""), cause]));
};

const ALL_CAUSES = {
  envelope: "envelope",
  junk: "envelope",
  moved: "damaged",
  seed: "damaged",
  unknown: "unknown-key-id",
};

describe("etcd recover", () => {
  it("etcd recover lists every object that no key can decrypt, with its cause", async () => {
    const { findings, unreadable, objects, foreign } = await list();
    expect([objects, unreadable]).toEqual([309, 5]);
    expect(await causes()).toEqual(ALL_CAUSES);
    const [unknown] = findings.filter(({ cause }) => cause === "unknown-key-id");
    expect(unknown).toMatchObject({
      key: bad("unknown"),
      resource: "secrets",
      keyId: OTHER,
      provider: "hsm",
      modRevision: expect.any(Number) as number,
    });
    expect(foreign).toEqual([{ provider: "aescbc:v1:key1", objects: 1, example: key("leftover") }]);
  });

  it("etcd recover prints a table with the reasons, and exits with 1", async () => {
    const { code, stdout } = await recover();
    expect(stdout).toMatch(/^OBJECT +REVISION +CAUSE +KEY_ID$/m);
    expect(stdout).toMatch(new RegExp(`^${bad("moved")} +\\d+ +damaged +${keyId}$`, "m"));
    expect(stdout).toMatch(/^2 envelope: |^1 envelope: /m);
    expect(stdout).toMatch(/^1 damaged: its data does not authenticate/m);
    expect(stdout).toContain(`not checked: 1 under aescbc:v1:key1, such as ${key("leftover")}`);
    expect(stdout).toContain("309 objects");
    expect(stdout).toContain("5 objects cannot be decrypted");
    expect(code).toBe(1);
  });

  it("etcd recover exits with 0 if every object can be decrypted", async () => {
    const { code, stdout } = await recover("--prefix", "/registry/secrets/ns-1");
    expect([code, stdout]).toEqual([
      0,
      expect.stringContaining("every object under KMS v2 can be decrypted"),
    ]);
  });
});

describe("what etcd recover never calls unreadable", () => {
  it("etcd recover lists no object if the token is away", async () => {
    kms.fault.set("C_OpenSession rv 0x30");
    expect(await recover()).toMatchObject({ code: 3, stdout: "" });
  });

  it("etcd recover lists no object if the token fails while it decrypts", async () => {
    kms.fault.set("C_DecryptInit rv 0x32");
    expect(await recover()).toMatchObject({ code: 3, stdout: "" });
  });

  it("etcd recover lists no object if the token shows no KEK", async () => {
    const empty = tokenUri(kms.token, "nothing");
    expect(await recover("--kek", empty)).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringContaining("no token holds a KEK") as string,
    });
  });

  it("an unknown key_id is unproven while another configured token is away", async () => {
    kms.fault.set("C_OpenSession rv 0x30");
    expect(await causes("--config", both.configFile)).toEqual({ ...ALL_CAUSES, unknown: "unproven" });
  });

  it("objects under a KEK that fails its proof are unproven, not damaged", async () => {
    kms.fault.set("C_Decrypt rv 0x40");
    const found = await causes();
    expect(found).toMatchObject({ moved: "unproven", seed: "unproven", unknown: "unknown-key-id" });
  });

  it("a KEK that may only decrypt is proven by a stored seed", async () => {
    kms.fault.set(DECRYPT_ONLY);
    expect(await causes()).toEqual(ALL_CAUSES);
  });

  it("a KEK that may only decrypt proves nothing while it decrypts no stored seed", async () => {
    const { seed: damaged } = badObjects();
    await etcd.store.put("/other/secrets/bad/seed", damaged ?? Buffer.alloc(0));
    expect(await causes("--prefix", "/other")).toEqual({ seed: "damaged" });
    kms.fault.set(DECRYPT_ONLY);
    expect(await causes("--prefix", "/other")).toEqual({ seed: "unproven" });
  });

  it("an unknown key_id is reported as known elsewhere if a node has its KEK", async () => {
    const holder = await nodes.node({ keys: [standby(OTHER)] });
    const { findings, nodes: asked } = await list("--nodes", holder.href);
    expect(findings.filter(({ cause }) => cause === "known-elsewhere")).toMatchObject([
      { key: bad("unknown"), reason: expect.stringContaining(holder.href) as string },
    ]);
    expect(asked).toEqual([{ url: holder.href, error: null }]);
  });

  it("a KEK that a node has used and no token holds is reported as missing", async () => {
    const at = new Date().toISOString();
    const user = await nodes.node({ answered: [{ keyId: OTHER, statusAt: at, encryptAt: null }] });
    expect(await causes("--nodes", user.href)).toEqual({ ...ALL_CAUSES, unknown: "kek-missing" });
  });

  it("etcd recover reports a node that does not answer beside its list", async () => {
    const away = `http://127.0.0.1:${await freePort()}`;
    const { stdout, code } = await recover("--nodes", away);
    expect([code, stdout]).toEqual([1, expect.stringContaining("warning: a node did not say which KEKs")]);
  });
});

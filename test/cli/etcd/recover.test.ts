// `etcd recover` as an operator runs it, on a real etcd with objects as API servers store them: what it lists, with which
// cause.
import { describe, expect, it } from "vitest";
import { standby } from "../../support/fake-nodes.js";
import { freePort } from "../../support/free-port.js";
import { key } from "./stocked-etcd.js";
import { ALL_CAUSES, bad, OTHER, useUnreadableObjects } from "./unreadable-objects.js";

const objects = useUnreadableObjects();

describe("etcd recover", () => {
  it("etcd recover lists every object that no key can decrypt, with its cause", async () => {
    const { findings, unreadable, objects: all, foreign } = await objects.list();
    expect([all, unreadable]).toEqual([309, 5]);
    expect(await objects.causes()).toEqual(ALL_CAUSES);
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
    const { code, stdout } = await objects.recover();
    expect(stdout).toMatch(/^OBJECT +REVISION +CAUSE +KEY_ID$/m);
    expect(stdout).toMatch(new RegExp(`^${bad("moved")} +\\d+ +damaged +${objects.keyId}$`, "m"));
    expect(stdout).toMatch(/^2 envelope: |^1 envelope: /m);
    expect(stdout).toMatch(/^1 damaged: its data does not authenticate/m);
    expect(stdout).toContain(`not checked: 1 under aescbc:v1:key1, such as ${key("leftover")}`);
    expect(stdout).toContain("309 objects");
    expect(stdout).toContain("5 objects cannot be decrypted");
    expect(code).toBe(1);
  });

  it("etcd recover exits with 0 if every object can be decrypted", async () => {
    const { code, stdout } = await objects.recover("--prefix", "/registry/secrets/ns-1");
    expect([code, stdout]).toEqual([
      0,
      expect.stringContaining("every object under KMS v2 can be decrypted"),
    ]);
  });
});

describe("what etcd recover learns from tokens and nodes", () => {
  it("etcd recover lists no object if the token is away", async () => {
    objects.kms.fault.set("C_OpenSession rv 0x30");
    expect(await objects.recover()).toMatchObject({ code: 3, stdout: "" });
  });

  it("an unknown key_id is reported as known elsewhere if a node has its KEK", async () => {
    const holder = await objects.nodes.node({ keys: [standby(OTHER)] });
    const { findings, nodes: asked } = await objects.list("--nodes", holder.href);
    expect(findings.filter(({ cause }) => cause === "known-elsewhere")).toMatchObject([
      { key: bad("unknown"), reason: expect.stringContaining(holder.href) as string },
    ]);
    expect(asked).toEqual([{ url: holder.href, error: null }]);
  });

  it("a KEK that a node has used and no token holds is reported as missing", async () => {
    const at = new Date().toISOString();
    const user = await objects.nodes.node({ answered: [{ keyId: OTHER, statusAt: at, encryptAt: null }] });
    expect(await objects.causes("--nodes", user.href)).toEqual({ ...ALL_CAUSES, unknown: "kek-missing" });
  });

  it("etcd recover reports a node that does not answer beside its list", async () => {
    const away = `http://127.0.0.1:${await freePort()}`;
    const { stdout, code } = await objects.recover("--nodes", away);
    expect([code, stdout]).toEqual([1, expect.stringContaining("warning: a node did not say which KEKs")]);
  });
});

// `etcd recover --delete` on a real etcd and token: what it deletes, what it never touches, and what it refuses before
// anything is deleted. kube-apiserver is a stand-in here, since it has to fail in ways that a real one does not on demand.
import { readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { EtcdRecoverOutput } from "../../../src/cli/output-schema/etcd-recover.js";
import { FakeNodes, standby } from "../../support/fake-nodes.js";
import { freePort } from "../../support/free-port.js";
import { sealedValue } from "../../support/stored-secrets.js";
import { bad, OTHER, useRecovery } from "./recovery-stage.js";
import { SECRET } from "./stocked-etcd.js";

const stage = useRecovery();
const nodes = new FakeNodes();

afterAll(() => {
  nodes.close();
});

describe("etcd recover --delete", () => {
  it("etcd recover --delete deletes damaged objects only, and records intent and outcome", async () => {
    const before = await stage.revisions();
    const { code, stdout } = await stage.delete();
    expect(stdout).toMatch(new RegExp(`^${bad("a-moved")} +deleted`, "m"));
    expect(stdout).toMatch(new RegExp(`^${bad("b-junk")} +deleted`, "m"));
    expect(stdout).toMatch(new RegExp(`^${bad("c-unknown")} +kept +its KEK may exist elsewhere`, "m"));
    expect(stdout).toContain("LIST of secrets works");
    expect(stdout).toContain("1 object that cannot be decrypted is left");
    expect(code).toBe(1);
    expect(await stage.badKeys()).toEqual([bad("c-unknown")]);
    expect(await stage.revisions()).toEqual(before);
    expect(stage.audited()).toEqual([
      [bad("a-moved"), "begun"],
      [bad("a-moved"), "ok"],
      [bad("b-junk"), "begun"],
      [bad("b-junk"), "ok"],
    ]);
    expect(stage.api.deleteOptions[0]).toEqual({
      kind: "DeleteOptions",
      apiVersion: "v1",
      ignoreStoreReadErrorWithClusterBreakingPotential: true,
    });
  });

  it("with --lost-kek, objects under that KEK are deleted too, and the exit code is 0", async () => {
    const { code, stderr } = await stage.delete("--lost-kek", OTHER);
    expect([code, stderr]).toEqual([0, expect.stringContaining("next: keep the backup")]);
    expect(await stage.badKeys()).toEqual([]);
  });

  it("with --lost-kek, objects under a KEK that a node has, or may have, are still kept", async () => {
    const holder = await nodes.node({ keys: [standby(OTHER)] });
    const away = `http://127.0.0.1:${await freePort()}`;
    for (const node of [holder.href, away]) {
      expect(await stage.outcomes("--lost-kek", OTHER, "--nodes", node)).toMatchObject({
        "c-unknown": "kept",
      });
    }
    expect(await stage.badKeys()).toEqual([bad("c-unknown")]);
  });

  it("--only restricts the deletion to the listed objects at the listed revisions", async () => {
    const { stdout } = await stage.run("-o", "json");
    const list = JSON.parse(stdout) as EtcdRecoverOutput;
    const file = join(stage.folder, "only.json");
    const findings = list.findings.filter((one) => one.cause !== "unknown-key-id");
    const other = findings.map((one) => (one.key === bad("b-junk") ? { ...one, modRevision: 1 } : one));
    writeFileSync(file, JSON.stringify({ ...list, findings: other }));
    expect(await stage.outcomes("--only", file)).toEqual({
      "a-moved": "deleted",
      "b-junk": "kept",
      "c-unknown": "kept",
    });
  });

  it("an object that is written again between the list and its deletion is not touched", async () => {
    stage.api.hooks.onDelete = (name) =>
      name === bad("a-moved") &&
      stage.etcd.store.put(bad("b-junk"), sealedValue(stage.seed, bad("b-junk"), SECRET));
    expect(await stage.outcomes()).toEqual({
      "a-moved": "deleted",
      "b-junk": "changed",
      "c-unknown": "kept",
    });
    expect(stage.api.deletions).toEqual([bad("a-moved")]);
  });

  it("an object that kube-apiserver can read is never deleted", async () => {
    stage.api.readable.add(bad("a-moved"));
    expect(await stage.outcomes()).toMatchObject({ "a-moved": "readable", "b-junk": "deleted" });
    expect(stage.api.deletions).toEqual([bad("b-junk")]);
  });

  it("an object that becomes readable just before its deletion stays, and the audit log says so", async () => {
    stage.api.hooks.onDelete = (name) => stage.api.readable.add(name);
    expect(await stage.outcomes()).toMatchObject({ "a-moved": "readable", "b-junk": "readable" });
    expect(stage.audited().map(([, outcome]) => outcome)).toEqual(["begun", "readable", "begun", "readable"]);
    expect(await stage.badKeys()).toHaveLength(3);
  });

  it("a deletion whose answer is an error counts as made if etcd shows it", async () => {
    stage.api.hooks.onDelete = async (name) => {
      await stage.etcd.store.delete(name);
      await stage.etcd.store.put(name, sealedValue(stage.seed, name, SECRET));
      stage.api.readable.add(name);
    };
    expect(await stage.outcomes()).toMatchObject({ "a-moved": "deleted", "b-junk": "deleted" });
  });

  it("an interrupted deletion stops after the object in progress, and continues when run again", async () => {
    stage.api.hooks.onDelete = () => process.emit("SIGTERM");
    const { code, stdout, stderr } = await stage.delete();
    expect([code, stderr]).toEqual([
      130,
      expect.stringContaining("interrupted; deleted before that: 1 of 2 objects; repeat the command"),
    ]);
    expect(stdout).toMatch(new RegExp(`^${bad("a-moved")} +deleted`, "m"));
    expect(stage.audited().map(([, outcome]) => outcome)).toEqual(["begun", "ok"]);
    stage.api.hooks.onDelete = () => undefined;
    expect(await stage.outcomes()).toEqual({ "a-moved": "gone", "b-junk": "deleted", "c-unknown": "kept" });
  });

  it("a token that fails during a deletion ends it", async () => {
    stage.api.hooks.onDelete = () => {
      stage.kms.fault.set("C_DecryptInit rv 0x32");
    };
    const { code, stdout, stderr } = await stage.delete();
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/is not proven on .*; nothing further was deleted/),
    ]);
    expect(stdout).toMatch(/a-moved +deleted/);
    expect(stage.api.deletions).toEqual([bad("a-moved")]);
    expect(stage.runs().ends).toEqual([expect.objectContaining({ outcome: "KEY_UNSUITABLE" })]);
  });

  it("an object that another run deletes at the same time is gone, and not counted as deleted", async () => {
    stage.api.hooks.onDelete = (name) => name === bad("a-moved") && stage.etcd.store.delete(name);
    expect(await stage.outcomes()).toMatchObject({ "a-moved": "gone", "b-junk": "deleted" });
    expect(stage.runs().ends[0]?.details).toMatchObject({ deleted: 1, gone: 1, left: 1 });
  });
});

describe("what etcd recover --delete refuses before anything is deleted", () => {
  const refuses = stage.refuses.bind(stage);

  it("etcd recover --delete refuses a snapshot, and needs a backup, a terminal and an audit log", async () => {
    await refuses(stage.run("--delete", "--yes"), 2, "--backup: name a snapshot");
    await refuses(
      stage.run("--delete", "--backup", stage.backup),
      2,
      "--yes: is required without a terminal",
    );
    await refuses(stage.delete("--snapshot", stage.backup), 2, "--delete: needs a running etcd");
    stage.kms.own.configure({});
    try {
      await refuses(stage.delete(), 2, "audit.file: is missing");
    } finally {
      stage.kms.own.configure({ audit: { file: stage.auditFile } });
    }
  });

  it("etcd recover --delete refuses a backup that is damaged, old, dated ahead or incomplete", async () => {
    const broken = join(stage.folder, "broken.db");
    const bytes = readFileSync(stage.backup);
    bytes.writeUInt8(bytes.readUInt8(9_000) ^ 1, 9_000);
    writeFileSync(broken, bytes);
    await refuses(stage.run("--delete", "--yes", "--backup", broken), 2, `--backup: ${broken} is damaged`);
    const day = 24 * 3_600;
    const now = Date.now() / 1000;
    utimesSync(stage.backup, now - 2 * day, now - 2 * day);
    await refuses(stage.delete(), 2, "which is too long ago");
    utimesSync(stage.backup, now + day, now + day);
    await refuses(stage.delete(), 2, "is dated ahead");
    utimesSync(stage.backup, now, now);
    await stage.etcd.store.put(bad("b-junk"), Buffer.from("other junk"));
    await refuses(stage.delete(), 2, "does not contain 1 of the 2 objects as they are now");
  });

  it("etcd recover --delete refuses more objects than --limit", async () => {
    await refuses(stage.delete("--limit", "1"), 2, "more than --limit 1");
  });

  it("etcd recover --delete refuses while a token is away, even if another one decrypts", async () => {
    stage.kms.fault.set("C_OpenSession rv 0x30");
    await refuses(stage.delete("--config", stage.both.configFile), 3, "nothing further was deleted");
  });

  it("etcd recover --delete refuses while a KEK on a token fails its proof", async () => {
    stage.kms.fault.set("C_Decrypt rv 0x40");
    await refuses(stage.delete("--config", stage.both.configFile), 1, "is not proven on");
  });

  it("etcd recover --delete refuses an API server of another cluster", async () => {
    stage.api.hooks.instead = ({ path }) =>
      path.endsWith("/kube-system") ? { status: 200, body: { metadata: { uid: "u-2" } } } : undefined;
    await refuses(stage.delete(), 2, "is not an API server of this etcd");
  });

  it("etcd recover --delete refuses an API server that does not say corrupt object", async () => {
    const body = { kind: "Status", message: "Internal error occurred: no matching prefix found" };
    stage.api.hooks.instead = ({ path, method }) =>
      method === "GET" && path.includes("/bad/") ? { status: 500, body } : undefined;
    await refuses(stage.delete(), 2, "Kubernetes 1.37 does");
  });

  it("etcd recover --delete refuses a user who lacks the verb for unreadable objects", async () => {
    stage.api.hooks.instead = ({ body }) =>
      JSON.stringify(body ?? "").includes("unsafe-delete-ignore-read-errors")
        ? { status: 201, body: { status: { allowed: false } } }
        : undefined;
    await refuses(stage.delete(), 2, "may not unsafe-delete-ignore-read-errors secrets");
  });

  it("etcd recover --delete refuses if the audit log cannot record the intent", async () => {
    stage.kms.own.configure({ audit: { file: join(stage.kms.plugin.configFile, "audit.log") } });
    try {
      await refuses(stage.delete(), 2, "the audit log cannot be written");
    } finally {
      stage.kms.own.configure({ audit: { file: stage.auditFile } });
    }
  });

  it("etcd recover refuses the options of a deletion without --delete", async () => {
    await refuses(stage.run("--backup", stage.backup), 2, "--backup: applies to --delete");
  });
});

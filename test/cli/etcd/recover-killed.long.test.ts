// `etcd recover --delete` killed at requests that it makes to kube-apiserver, and run again. Between two requests lie the
// proofs, the look at etcd and the lines of the audit log.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { EtcdRecoverOutput } from "../../../src/cli/output-schema/etcd-recover.js";
import type { Asked } from "../../etcd/stand-in-api.js";
import { MAIN } from "../../support/plugin-process.js";
import { bad, OTHER, outcomesIn, useRecovery } from "./recovery-stage.js";

const stage = useRecovery();
const NAMES = ["a-moved", "b-junk", "c-unknown"];

/** Writes the list of what cannot be decrypted, and returns the arguments of a deletion of exactly that. */
async function deletion(): Promise<string[]> {
  const { stdout } = await stage.run("-o", "json");
  const list = join(stage.folder, "list.json");
  writeFileSync(list, stdout);
  return ["--lost-kek", OTHER, "--only", list];
}

interface Kill {
  readonly what: string;
  readonly at: (asked: Asked) => boolean;
  /** Whether the API server performs the request nevertheless. */
  readonly isPerformed: boolean;
}

const asks =
  (method: string, part: string) =>
  (asked: Asked): boolean =>
    asked.method === method && asked.path.includes(part);
const KILLS: readonly Kill[] = [
  { what: "its first request", at: () => true, isPerformed: true },
  { what: "the last look before the second deletion", at: asks("GET", "/b-junk"), isPerformed: true },
  { what: "the first deletion, which is not made", at: asks("DELETE", "/a-moved"), isPerformed: false },
  { what: "the first deletion, which is made", at: asks("DELETE", "/a-moved"), isPerformed: true },
  { what: "the last deletion, which is not made", at: asks("DELETE", "/c-unknown"), isPerformed: false },
  { what: "the last deletion, which is made", at: asks("DELETE", "/c-unknown"), isPerformed: true },
  { what: "the LIST afterwards", at: asks("GET", "/secrets?"), isPerformed: true },
];

/** Deletes in a process of its own, which is killed when it makes a request. */
async function killedAt({ at, isPerformed }: Kill, args: readonly string[]): Promise<void> {
  const command = stage.args("--delete", "--yes", "--backup", stage.backup, ...args);
  const child = spawn(process.execPath, [MAIN, ...command], {
    env: { ...process.env, ...stage.env },
    stdio: "ignore",
  });
  const ended = once(child, "exit");
  let isKilled = false;
  stage.api.hooks.instead = (asked) => {
    if (isKilled || !at(asked)) return undefined;
    isKilled = child.kill("SIGKILL");
    return isPerformed ? undefined : { status: 503 };
  };
  expect(await ended).toEqual([null, "SIGKILL"]);
  await stage.api.idle();
  stage.api.hooks.instead = () => undefined;
}

it.each(KILLS)("a deletion killed at $what deletes the rest when run again", async (kill) => {
  const readable = await stage.revisions();
  for (const name of NAMES) readable.delete(bad(name));
  const args = await deletion();
  await killedAt(kill, args);
  const left = (await stage.badKeys()).map((key) => key.replace(/.*\//, ""));
  const begun = stage.api.deletions.length;
  const { code, stdout, stderr } = await stage.delete("-o", "json", ...args);
  expect(code, stderr).toBe(0);
  const expected = NAMES.map((name) => [name, left.includes(name) ? "deleted" : "gone"]);
  expect(outcomesIn(stdout)).toEqual(Object.fromEntries(expected));
  const { deletion: made } = JSON.parse(stdout) as EtcdRecoverOutput;
  expect(made?.audit).toEqual({ host: hostname(), file: stage.auditFile });
  expect(made?.lists).toEqual([{ resource: "secrets", error: null }]);
  expect(await stage.revisions()).toEqual(readable);
  expect(stage.api.deletions.slice(begun)).toEqual(left.map(bad));
  const intended = stage.audited().filter(([, outcome]) => outcome === "begun");
  expect(new Set(intended.map(([key]) => key))).toEqual(new Set(NAMES.map(bad)));
});

it("objects of --only that were written again are not called gone", async () => {
  const args = await deletion();
  await stage.etcd.store.put(bad("b-junk"), Buffer.from('{"kind":"Secret"}'));
  expect(await stage.outcomes(...args)).toEqual({
    "a-moved": "deleted",
    "b-junk": "changed",
    "c-unknown": "deleted",
  });
});

describe("without --only", () => {
  it.each([KILLS[3], KILLS[6]] as Kill[])(
    "after a deletion killed at $what, the next run names what is gone from the audit log",
    async (kill) => {
      const lost = ["--lost-kek", OTHER];
      await killedAt(kill, lost);
      const left = (await stage.badKeys()).map((key) => key.replace(/.*\//, ""));
      const { code, stdout, stderr } = await stage.delete("-o", "json", ...lost);
      expect(code, stderr).toBe(0);
      const expected = NAMES.map((name) => [name, left.includes(name) ? "deleted" : "gone"]);
      expect(outcomesIn(stdout)).toEqual(Object.fromEntries(expected));
      const { deletion: made } = JSON.parse(stdout) as EtcdRecoverOutput;
      expect(made?.results).toContainEqual({
        key: bad("a-moved"),
        modRevision: expect.any(Number) as number,
        outcome: "gone",
        reason: expect.stringMatching(/a run that was interrupted began to delete it at \d{4}-/) as string,
      });
      expect(made?.lists).toEqual([{ resource: "secrets", error: null }]);
    },
  );

  it("objects that were created again are not reported as gone, nor those of an old deletion", async () => {
    await killedAt(KILLS[6] as Kill, ["--lost-kek", OTHER]);
    await stage.etcd.store.put(bad("a-moved"), Buffer.from('{"kind":"Secret"}'));
    expect(await stage.outcomes("--max-backup-age", "1ms")).toEqual({});
    expect(await stage.outcomes()).toEqual({ "b-junk": "gone", "c-unknown": "gone" });
  });

  it("what a run has deleted that came to its end is not reported by the next one", async () => {
    expect(await stage.outcomes("--lost-kek", OTHER)).toMatchObject({ "a-moved": "deleted" });
    expect(await stage.outcomes()).toEqual({});
    const { ids, ends } = stage.runs();
    expect(ids).toEqual([expect.stringMatching(/^[0-9a-f]{16}$/)]);
    const details = { run: ids[0], deleted: 3, gone: 0, left: 0 };
    expect(ends).toEqual([expect.objectContaining({ outcome: "ok" })]);
    expect(ends[0]?.details).toMatchObject(details);
  });

  it("what a killed run has deleted is reported by one run that comes to its end, not by two", async () => {
    await killedAt(KILLS[6] as Kill, ["--lost-kek", OTHER]);
    const gone = { "a-moved": "gone", "b-junk": "gone", "c-unknown": "gone" };
    const body = { kind: "Status", message: "Internal error occurred: StorageError: corrupt object" };
    stage.api.hooks.instead = ({ path }) => {
      if (!path.startsWith("/api/v1/secrets?")) return undefined;
      process.emit("SIGINT");
      return { status: 500, body };
    };
    expect(await stage.outcomes()).toEqual(gone);
    stage.api.hooks.instead = () => undefined;
    expect(await stage.outcomes()).toEqual(gone);
    expect(await stage.outcomes()).toEqual({});
    expect(stage.runs().ends.map(({ outcome }) => outcome)).toEqual(["CANCELLED", "ok"]);
  });
});

it("a deletion asks the API server once for the resources that it serves", async () => {
  await killedAt(KILLS[3] as Kill, []);
  const before = stage.api.asked.length;
  expect(await stage.outcomes("--lost-kek", OTHER)).toMatchObject({
    "a-moved": "gone",
    "c-unknown": "deleted",
  });
  expect(stage.api.asked.slice(before).filter(({ path }) => path === "/apis")).toHaveLength(1);
});

it("an interrupt while the LIST still fails shows what was deleted", async () => {
  const body = { kind: "Status", message: "Internal error occurred: StorageError: corrupt object" };
  stage.api.hooks.instead = ({ path }) => {
    if (!path.startsWith("/api/v1/secrets?")) return undefined;
    process.emit("SIGINT");
    return { status: 500, body };
  };
  const { code, stdout, stderr } = await stage.delete();
  expect([code, stdout]).toEqual([130, expect.stringMatching(/a-moved +deleted/)]);
  expect(stderr).toContain("interrupted while a resource could not be listed; repeat the command");
  expect(stdout).toMatch(/LIST of secrets fails: .*corrupt object; interrupted/);
});

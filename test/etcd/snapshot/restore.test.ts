// A snapshot reads as the etcd from which it was saved: on random histories of the installed etcd, and on frozen
// snapshots of other releases. The end-to-end suite compares with etcdutl's restore.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startEtcd, type TestEtcd } from "../../support/etcd.js";
import { contentOf, contentOfSnapshot, history, replay, saveSnapshot } from "../../support/etcd-history.js";
import { makeFolder } from "../../support/token.js";

const RUNS = 4;

let etcd: TestEtcd;
const folder = makeFolder("snapshot");
const file = join(folder, "snapshot.db");

beforeAll(async () => {
  etcd = await startEtcd("etcd", ["--unsafe-no-fsync"]);
});
afterAll(async () => {
  await etcd.remove();
  rmSync(folder, { recursive: true, force: true });
});

it("a snapshot has the latest revision of every key after any history", async () => {
  await fc.assert(
    fc.asyncProperty(history, async (steps) => {
      await replay(etcd.store, steps);
      await saveSnapshot(etcd.store, file);
      for (const prefix of ["/", "/registry/", "/registry/a/"]) {
        expect(await contentOfSnapshot(file, prefix)).toEqual(await contentOf(etcd.store, prefix));
      }
    }),
    // etcd keeps its content, so a shorter history would not start from the same.
    { numRuns: RUNS, endOnFailure: true },
  );
});

// Saved after 250 changes with deletions, a compaction, leases and a value of 300 kB; content.json is what each etcd
// then served.
it.each(["3.4", "3.5", "3.6"])("a snapshot of etcd %s reads as this etcd served it", async (release) => {
  const fixture = (name: string): Buffer => readFileSync(new URL(`./fixtures/${name}`, import.meta.url));
  writeFileSync(file, gunzipSync(fixture(`etcd-${release}.db.gz`)));
  expect(await contentOfSnapshot(file, "/")).toEqual(JSON.parse(fixture("content.json").toString()));
});

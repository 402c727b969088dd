// A snapshot reads as the etcd that etcdutl restores from it, after random histories. Without etcdutl, it is compared with
// the etcd from which it was saved.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startEtcd, type TestEtcd } from "../support/etcd.js";
import {
  contentOf,
  contentOfSnapshot,
  history,
  replay,
  saveSnapshot,
  type Content,
} from "../support/etcd-history.js";
import { hasEtcdTool } from "./harness/etcd-tools.js";
import { binaries, newFolder } from "./harness/run.js";

const RUNS = 25;
const PREFIXES = ["/", "/registry/", "/registry/b/"];

let etcd: TestEtcd;

beforeAll(async () => {
  etcd = await startEtcd(join(binaries(), "etcd"));
});
afterAll(async () => {
  await etcd.remove();
});

async function expectedContent(file: string, folder: string): Promise<Content[]> {
  const contents = async ({ store }: TestEtcd): Promise<Content[]> =>
    Promise.all(PREFIXES.map((prefix) => contentOf(store, prefix)));
  if (!hasEtcdTool("etcdutl")) return contents(etcd);
  const data = join(folder, "data");
  const args = ["snapshot", "restore", file, "--data-dir", data];
  execFileSync(join(binaries(), "etcdutl"), args, { stdio: "ignore" });
  const restored = await startEtcd(join(binaries(), "etcd"), [`--data-dir=${data}`]);
  try {
    return await contents(restored);
  } finally {
    await restored.remove();
  }
}

it("a snapshot has the same objects as the etcd that etcdutl restores from it", async () => {
  await fc.assert(
    fc.asyncProperty(history, async (steps) => {
      await replay(etcd.store, steps);
      const folder = await newFolder("snapshot");
      const file = join(folder, "snapshot.db");
      await saveSnapshot(etcd.store, file);
      const expected = await expectedContent(file, folder);
      for (const [at, prefix] of PREFIXES.entries()) {
        expect(await contentOfSnapshot(file, prefix)).toEqual(expected[at]);
      }
    }),
    { numRuns: RUNS, endOnFailure: true },
  );
});

// Reads a snapshot from bytes, through a file, as the etcd commands do.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll } from "vitest";
import { Snapshot } from "../../src/etcd/snapshot/snapshot-store.js";
import { makeFolder } from "./token.js";

interface ReadSnapshot {
  /** The last parts of the keys. */
  readonly names: readonly string[];
  readonly revision: number | undefined;
}

interface ReadOptions {
  readonly skipHashCheck?: boolean;
  readonly prefix?: string;
}

/** Makes a file for snapshots, which is removed with its folder after the calling file's tests. */
export function useSnapshotFile(): {
  readonly file: string;
  /** Replaces the file's contents and reads all objects under a prefix from it. */
  readonly read: (bytes: Buffer, options?: ReadOptions) => Promise<ReadSnapshot>;
} {
  const folder = makeFolder("snapshot");
  const file = join(folder, "snapshot.db");
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  return { file, read: (bytes, options) => readSnapshot(file, bytes, options) };
}

/** Writes the bytes to a file and reads all objects under a prefix from it. */
async function readSnapshot(
  file: string,
  bytes: Buffer,
  { skipHashCheck = false, prefix = "/registry/" }: ReadOptions = {},
): Promise<ReadSnapshot> {
  writeFileSync(file, bytes);
  const snapshot = await Snapshot.open(file, { skipHashCheck });
  try {
    const store = snapshot.store(prefix);
    const names: string[] = [];
    for await (const { key } of store.objects()) names.push(key.slice(key.lastIndexOf("/") + 1));
    return { names, revision: store.revisions?.last };
  } finally {
    await snapshot.close();
  }
}

// Reads a snapshot from bytes, through a file, as the etcd commands do.

import { writeFileSync } from "node:fs";
import { Snapshot } from "../../src/etcd/snapshot/snapshot-store.js";

export interface ReadSnapshot {
  /** The last parts of the keys. */
  readonly names: readonly string[];
  readonly revision: number | undefined;
}

/** Writes the bytes to a file and reads all objects under a prefix from it. */
export async function readSnapshot(
  file: string,
  bytes: Buffer,
  { skipHashCheck = false, prefix = "/registry/" } = {},
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

// Random histories of an etcd: puts, deletions, keys that come back, leases, large values, compactions and
// defragmentations, after each of which a snapshot must read as the etcd itself does.

import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import fc from "fast-check";
import { Snapshot } from "../../src/etcd/snapshot/snapshot-store.js";
import type { EtcdStore } from "../e2e/harness/etcd-store.js";

/** kube-apiserver's values in clear start so; everything else is unreadable. */
const MAGIC = "k8s\0";

type Step =
  | { readonly kind: "put" | "put-leased" | "delete"; readonly key: string; readonly bytes: number }
  | { readonly kind: "put-many"; readonly prefix: string; readonly count: number }
  | { readonly kind: "delete-many"; readonly prefix: string }
  | { readonly kind: "compact" | "defragment" };

const prefix = fc.constantFrom("/registry/a/", "/registry/b/", "/registry/", "/registrx/", "/registry0/");
const key = fc.tuple(prefix, fc.integer({ min: 0, max: 12 })).map(([start, at]) => `${start}key-${at}`);
/** A page has 4 KiB; 1.2 MB fit a request of etcd. */
const bytes = fc.oneof(
  { weight: 10, arbitrary: fc.integer({ min: 4, max: 300 }) },
  { weight: 3, arbitrary: fc.integer({ min: 3_900, max: 9_000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 60_000, max: 1_200_000 }) },
);

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constantFrom("put", "put", "put-leased", "delete"), key, bytes }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("put-many"),
      prefix,
      count: fc.integer({ min: 1, max: 120 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("delete-many"), prefix }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("compact", "compact", "defragment") }) },
);

/** A number of changes for one etcd. */
export const history = fc.array(step, { minLength: 5, maxLength: 40, size: "max" });

/** Makes the changes. */
export async function replay(store: EtcdStore, steps: readonly Step[]): Promise<void> {
  for (const [at, one] of steps.entries()) {
    if (one.kind === "put-many") {
      const many = Array.from({ length: one.count }, (_, n) => `${one.prefix}many-${n}`);
      await store.putAll(many.map((name) => [name, valueOf(at, 100)]));
    } else if (one.kind === "put") await store.put(one.key, valueOf(at, one.bytes));
    else if (one.kind === "put-leased") await store.putLeased(one.key, valueOf(at, one.bytes));
    else if (one.kind === "delete") await store.delete(one.key);
    else if (one.kind === "delete-many") await store.deletePrefix(one.prefix);
    else if (one.kind === "defragment") await store.defragment();
    else {
      // etcd refuses a second compaction at one revision.
      await store.put("/registry/compacted", valueOf(at, 4));
      await store.compact();
    }
  }
}

function valueOf(seed: number, length: number): Buffer {
  const value = Buffer.alloc(length, seed);
  value.write(MAGIC, "latin1");
  return value;
}

export interface Content {
  readonly revision: number;
  /** Key, create_revision, mod_revision, and a digest of the value, since values are large. */
  readonly entries: readonly (readonly [string, number, number, string])[];
}

/** Returns what etcd serves under a prefix, in the order of the keys. */
export async function contentOf(store: EtcdStore, under: string): Promise<Content> {
  const entries = (await store.list(under)).map(
    ({ key: name, createRevision, modRevision, value }) =>
      [name, createRevision, modRevision, digestOf(value)] as const,
  );
  return { revision: await store.revision(), entries };
}

/** Returns what the snapshot reader finds under a prefix, in the order of the keys. */
export async function contentOfSnapshot(file: string, under: string): Promise<Content> {
  const snapshot = await Snapshot.open(file, { skipHashCheck: false });
  try {
    const store = snapshot.store(under);
    const entries: Content["entries"][number][] = [];
    for await (const { key: name, createRevision, modRevision, value } of store.objects()) {
      if (!("kind" in value) || value.kind !== "plaintext") throw new Error(`${name} cannot be read`);
      entries.push([name, createRevision, modRevision, digestOf(value.bytes)]);
    }
    entries.sort(([one], [other]) => (one < other ? -1 : 1));
    return { revision: store.revisions?.last ?? 0, entries };
  } finally {
    await snapshot.close();
  }
}

function digestOf(value: Buffer): string {
  return createHash("sha256").update(value).digest("hex").slice(0, 16);
}

/** Saves a snapshot of etcd to a file. */
export async function saveSnapshot(store: EtcdStore, file: string): Promise<void> {
  writeFileSync(file, await store.snapshot());
}

// Files that are no sound snapshots, also those made to do harm, are refused with a reason: no crash, no endless loop, no
// memory beyond what the file holds.

import { readFileSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KmsError } from "../../../src/errors.js";
import {
  branchPage,
  bucketAt,
  database,
  leafPage,
  put,
  revisionKey,
  soundDatabase,
  VALUE,
  withHash,
} from "../../support/bbolt-file.js";
import { useSnapshotFile } from "../../support/snapshot-reading.js";

const FIXTURES = new URL("./fixtures/", import.meta.url);
const MIB = 2 ** 20;
const { read } = useSnapshotFile();
const sound = soundDatabase();

describe("a file that is not a sound snapshot is refused with its reason", () => {
  const first = revisionKey(2);
  const patched = (page: Buffer, offset: number, value: number): Buffer => {
    const bytes = Buffer.from(page);
    bytes.writeUInt32LE(value, offset);
    return bytes;
  };
  const leaf = leafPage(3, [put(2), put(3)]);
  const chain = Array.from({ length: 40 }, (_, at) => branchPage(3 + at, [[first, 4 + at]]));

  const damaged: readonly [string, Buffer | readonly Buffer[], string][] = [
    ["a branch that contains itself", [branchPage(3, [[first, 3]])], "page 3: it contains itself"],
    [
      "branches in a circle",
      [branchPage(3, [[first, 4]]), branchPage(4, [[first, 3]])],
      "page 3: it contains itself",
    ],
    [
      "a leaf under two branches",
      [
        branchPage(3, [
          [first, 4],
          [revisionKey(3), 4],
        ]),
        leafPage(4, [put(3)]),
      ],
      "page 4: its keys are not in order",
    ],
    ["a tree that is too deep", chain, "levels deep"],
    ["a child that does not exist", [branchPage(3, [[first, 99]])], "page 99 is not one of its 4 pages"],
    ["a child that is a meta page", [branchPage(3, [[first, 1]])], "page 1 is not one of"],
    ["a child with a huge id", [patched(branchPage(3, [[first, 4]]), 16 + 12, 0xffffffff)], "is not one of"],
    ["a page with another id", [patched(leaf, 0, 9)], "page 3: it has the id 9"],
    ["a page of another kind", [patched(leaf, 8, 0x10)], "page 3: it is neither a branch nor a leaf"],
    ["a count beyond the page", [patched(leaf, 8, 0xffff0002)], "page 3: it has no space for 65535 elements"],
    ["an overflow beyond the file", [patched(leaf, 12, 7)], "page 3 claims 32768 bytes"],
    ["an overflow of terabytes", [patched(leaf, 12, 0xffffffff)], "page 3 claims 17592186044416 bytes"],
    ["an element outside the page", [patched(leaf, 16 + 4, 5000)], "page 3: element 0 ends outside the page"],
    [
      "a value behind the page",
      [patched(leaf, 32 + 12, 0xfffffff0)],
      "page 3: element 1 ends outside the page",
    ],
    ["elements that overlap", [patched(leaf, 32 + 4, 16)], "page 3: element 1 overlaps another"],
    ["keys in wrong order", [leafPage(3, [put(3), put(2)])], "page 3: its keys are not in order"],
    ["a key twice", [leafPage(3, [put(2), put(2)])], "page 3: its keys are not in order"],
    [
      "a child outside its branch",
      [branchPage(3, [[revisionKey(5), 4]]), leafPage(4, [put(2)])],
      "page 4: its keys are not in order",
    ],
    ["an empty child", [branchPage(3, [[first, 4]]), leafPage(4, [])], "page 4: it is empty"],
    ["a record without a revision", [leafPage(3, [[Buffer.from("x"), VALUE]])], "not named by a revision"],
    ["a value that is not a record", [leafPage(3, [[first, Buffer.from("junk")]])], "page 3: "],
    ["a database without the bucket", leafPage(2, [[Buffer.from("kex"), bucketAt(3), 1]]), `no bucket "key"`],
    [
      "a key in the bucket's place",
      leafPage(2, [[Buffer.from("key"), bucketAt(3)]]),
      `"key" is not a bucket`,
    ],
  ];

  it.each(damaged)("a damaged database is refused with its reason: %s", async (_what, pages, reason) => {
    const bytes =
      pages instanceof Buffer
        ? Buffer.concat([sound.subarray(0, 8192), pages, sound.subarray(8192 + 4096)])
        : database(pages as readonly Buffer[]);
    await expect(read(withHash(bytes))).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      message: expect.stringContaining(reason) as string,
    });
  });

  it.each<[string, Buffer, string]>([
    ["an empty file", Buffer.alloc(0), "is not a snapshot of etcd"],
    ["another file", Buffer.alloc(10_000, "text"), "is not a snapshot of etcd"],
    ["one byte", Buffer.alloc(1), "is not a snapshot of etcd"],
    [
      "half of a snapshot",
      withHash(sound).subarray(0, 9000),
      "it has 9000 bytes, but its 4 pages need 16384",
    ],
    ["a snapshot without its last bytes", withHash(sound).subarray(0, -5), "does not end with the hash"],
    ["a gzip file", gzipSync(sound), "is compressed with gzip; decompress it first: gzip -dk"],
    [
      "a zstd file",
      Buffer.from("28b52ffd00000000", "hex"),
      "is compressed with zstd; decompress it first: zstd -dk",
    ],
    [
      "two damaged meta pages",
      Buffer.concat([
        sound.subarray(0, 60),
        Buffer.alloc(4036),
        sound.subarray(4096, 4150),
        sound.subarray(4096),
      ]),
      "both of its meta pages are invalid",
    ],
    [
      "a file of a big-endian machine",
      Buffer.concat([Buffer.alloc(16), Buffer.from("ed0cdaed", "hex"), Buffer.alloc(9000)]),
      "other byte order",
    ],
  ])("a file that is not a snapshot is refused with its reason: %s", async (_what, bytes, reason) => {
    await expect(read(bytes)).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      message: expect.stringContaining(reason) as string,
    });
  });

  it("any damage to a snapshot of etcd ends with a result or a reason, within bounded memory", async () => {
    const bytes = gunzipSync(readFileSync(new URL("etcd-3.6.db.gz", FIXTURES)));
    const used = offsetsInHeads(bytes);
    const before = process.memoryUsage.rss();
    const change = fc.tuple(fc.constantFrom(...used), fc.integer({ min: 0, max: 255 }));
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 8 }), async (changes) => {
        const copy = Buffer.from(bytes);
        for (const [offset, value] of changes) copy.writeUInt8(value, offset);
        await read(copy, { skipHashCheck: true }).catch((error: unknown) => {
          expect(error).toBeInstanceOf(KmsError);
        });
      }),
      { numRuns: 100 },
    );
    expect(process.memoryUsage.rss() - before).toBeLessThan(300 * MIB);
  });
});

/** Returns the offsets in the first bytes of all pages: their headers and elements. */
function offsetsInHeads(bytes: Buffer): readonly number[] {
  const offsets = Array.from({ length: bytes.length }, (_, offset) => offset);
  return offsets.filter((offset) => offset % 4096 < 400);
}

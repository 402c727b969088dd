// Which files the snapshot reader accepts, and what it finds in them.

import { appendFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Snapshot } from "../../../src/etcd/snapshot/snapshot-store.js";
import {
  branchPage,
  bucketAt,
  database,
  deletion,
  keyValue,
  leafPage,
  metaPage,
  put,
  revisionKey,
  soundDatabase,
  VALUE,
  withHash,
  type LeafElement,
} from "../../support/bbolt-file.js";
import { useSnapshotFile } from "../../support/snapshot-reading.js";

const { file, read } = useSnapshotFile();
const sound = soundDatabase();

describe("a sound snapshot", () => {
  it("a sound snapshot has each undeleted key's latest revision, the last change first", async () => {
    const changes = [
      put(2, "a"),
      put(3, "b"),
      deletion(4, "a"),
      put(5, "b"),
      put(6, "c"),
      put(7, "a"),
      deletion(8, "c"),
    ];
    expect(await read(withHash(database([leafPage(3, changes)])))).toEqual({
      names: ["a", "b"],
      revision: 8,
    });
  });

  it("a sound snapshot may have branches over several levels, and values over several pages", async () => {
    const large: LeafElement = [
      revisionKey(9),
      keyValue("/registry/secrets/ns/large", Buffer.alloc(9000, VALUE), 9),
    ];
    const pages = [
      branchPage(3, [
        [revisionKey(2), 4],
        [revisionKey(6), 5],
      ]),
      branchPage(4, [
        [revisionKey(2), 6],
        [revisionKey(4), 7],
      ]),
      branchPage(5, [[revisionKey(6), 8]]),
      leafPage(6, [put(2), put(3)]),
      leafPage(7, [put(4), put(5)]),
      leafPage(8, [put(6), large]),
    ];
    const expected = ["large", "object-6", "object-5", "object-4", "object-3", "object-2"];
    expect((await read(withHash(database(pages)))).names).toEqual(expected);
  });

  it("a sound snapshot may hold the bucket inline in its root", async () => {
    const inline = leafPage(0, [put(2)]).subarray(0, 200);
    const root = leafPage(2, [[Buffer.from("key"), Buffer.concat([bucketAt(0), inline]), 1]]);
    const bytes = Buffer.concat([sound.subarray(0, 8192), root, sound.subarray(8192 + 4096)]);
    expect((await read(withHash(bytes))).names).toEqual(["object-2"]);
  });

  it("a sound snapshot may be without any object", async () => {
    expect(await read(withHash(database([leafPage(3, [])])))).toEqual({ names: [], revision: 1 });
  });

  it("a sound snapshot shows only keys under the prefix", async () => {
    expect((await read(withHash(sound), { prefix: "/registry/secrets/other" })).names).toEqual([]);
    expect((await read(withHash(sound), { prefix: "registry/secrets/ns" })).names).toHaveLength(2);
  });

  it.each([1024, 16_384, 65_536])("a sound snapshot may have pages of %i bytes", async (pageSize) => {
    const bytes = database([leafPage(3, [put(2)], pageSize)], { pageSize });
    expect((await read(withHash(bytes))).names).toEqual(["object-2"]);
    bytes.fill(0, 0, 200);
    expect((await read(withHash(bytes))).names).toEqual(["object-2"]);
  });

  it("a sound snapshot is read at the newer meta page, or the older after a broken commit", async () => {
    const other = leafPage(4, [[Buffer.from("key"), bucketAt(5), 1]]);
    const newer = metaPage({ pageSize: 4096, root: 4, pages: 6, transaction: 9 });
    const bytes = Buffer.concat([
      sound.subarray(0, 4096),
      newer,
      sound.subarray(8192),
      other,
      leafPage(5, [put(7)]),
    ]);
    expect((await read(withHash(bytes))).names).toEqual(["object-7"]);
    bytes.writeUInt8(1, 4096 + 16 + 50);
    expect((await read(withHash(bytes))).names).toEqual(["object-3", "object-2"]);
  });

  it("a sound snapshot returns one object, unless it was deleted or never existed", async () => {
    writeFileSync(file, withHash(database([leafPage(3, [put(2, "a"), put(3, "b"), deletion(4, "b")])])));
    const snapshot = await Snapshot.open(file, { skipHashCheck: false });
    const store = snapshot.store("/");
    expect(await store.object("/registry/secrets/ns/a")).toMatchObject({ modRevision: 2 });
    expect(await store.object("/registry/secrets/ns/b")).toBeUndefined();
    expect(await store.object("/registry/secrets/ns/c")).toBeUndefined();
    await snapshot.close();
  });
});

describe("the hash", () => {
  it("the hash of a snapshot is required, and must match", async () => {
    await expect(read(sound)).rejects.toThrow("does not end with the hash");
    const damaged = withHash(sound);
    damaged.writeUInt8(1, 9000);
    await expect(read(damaged)).rejects.toThrow("does not match the SHA-256 at its end");
  });

  it("--skip-hash-check ignores the hash of a snapshot, missing, wrong or right", async () => {
    const wrong = withHash(sound);
    wrong.writeUInt8(wrong.readUInt8(wrong.length - 1) ^ 1, wrong.length - 1);
    for (const bytes of [sound, wrong, withHash(sound)]) {
      expect((await read(bytes, { skipHashCheck: true })).names).toHaveLength(2);
    }
  });
});

it("a file that is written to while it is read is refused", async () => {
  writeFileSync(file, withHash(sound));
  const snapshot = await Snapshot.open(file, { skipHashCheck: false });
  appendFileSync(file, "more");
  const reading = async (): Promise<number> => {
    let objects = 0;
    for await (const { key } of snapshot.store("/").objects()) objects += key.length;
    return objects;
  };
  await expect(reading()).rejects.toThrow("changed while it was read");
  await snapshot.close();
});

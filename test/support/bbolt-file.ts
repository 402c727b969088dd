// Writes small bbolt files with pages of any content, sound or not, as the snapshot reader must survive them.

import { createHash } from "node:crypto";
import { fnv1a } from "../../src/etcd/snapshot/meta-page.js";

const HEADER = 16;
const ELEMENT = 16;
/** A Kubernetes object in clear. */
export const VALUE = Buffer.from("k8s\0value");
const BRANCH = 1;
const LEAF = 2;

export interface MetaParts {
  readonly pageSize: number;
  readonly root: number;
  readonly pages: number;
  readonly transaction: number;
}

/** Returns a page with a valid meta. */
export function metaPage({ pageSize, root, pages, transaction }: MetaParts): Buffer {
  const page = Buffer.alloc(pageSize);
  page.writeBigUInt64LE(BigInt(transaction % 2), 0);
  page.writeUInt16LE(4, 8);
  const meta = page.subarray(HEADER);
  meta.writeUInt32LE(0xed0cdaed, 0);
  meta.writeUInt32LE(2, 4);
  meta.writeUInt32LE(pageSize, 8);
  meta.writeBigUInt64LE(BigInt(root), 16);
  meta.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, 32);
  meta.writeBigUInt64LE(BigInt(pages), 40);
  meta.writeBigUInt64LE(BigInt(transaction), 48);
  meta.writeBigUInt64LE(fnv1a(meta.subarray(0, 56)), 56);
  return page;
}

export type LeafElement = readonly [key: Buffer, value: Buffer, flags?: number];

/** Returns a leaf page with its overflow pages. */
export function leafPage(id: number, elements: readonly LeafElement[], pageSize = 4096): Buffer {
  const heads = elements.map(([key, value, flags = 0]) => (pos: number): Buffer => {
    const head = Buffer.alloc(ELEMENT);
    for (const [at, number] of [flags, pos, key.length, value.length].entries()) {
      head.writeUInt32LE(number, at * 4);
    }
    return head;
  });
  return page(
    id,
    LEAF,
    heads,
    elements.map(([key, value]) => Buffer.concat([key, value])),
    pageSize,
  );
}

/** Returns a branch page. */
export function branchPage(id: number, elements: readonly (readonly [key: Buffer, child: number])[]): Buffer {
  const heads = elements.map(([key, child]) => (pos: number): Buffer => {
    const head = Buffer.alloc(ELEMENT);
    head.writeUInt32LE(pos, 0);
    head.writeUInt32LE(key.length, 4);
    head.writeBigUInt64LE(BigInt(child), 8);
    return head;
  });
  return page(
    id,
    BRANCH,
    heads,
    elements.map(([key]) => key),
    4096,
  );
}

function page(
  id: number,
  flags: number,
  heads: readonly ((pos: number) => Buffer)[],
  contents: readonly Buffer[],
  pageSize: number,
): Buffer {
  const header = Buffer.alloc(HEADER);
  let pos = heads.length * ELEMENT;
  const elements = heads.map((head, at) => {
    const element = head(pos - at * ELEMENT);
    pos += contents[at]?.length ?? 0;
    return element;
  });
  const bytes = Buffer.concat([header, ...elements, ...contents]);
  const overflow = Math.ceil(bytes.length / pageSize) - 1;
  bytes.writeBigUInt64LE(BigInt(id), 0);
  bytes.writeUInt16LE(flags, 8);
  bytes.writeUInt16LE(heads.length, 10);
  bytes.writeUInt32LE(overflow, 12);
  return Buffer.concat([bytes, Buffer.alloc((overflow + 1) * pageSize - bytes.length)]);
}

/** Returns the value of a bucket with this root page. */
export function bucketAt(root: number): Buffer {
  const header = Buffer.alloc(16);
  header.writeBigUInt64LE(BigInt(root), 0);
  return header;
}

/** Returns the key of a record: its revision, and whether it deletes. */
export function revisionKey(main: number, isDeletion = false): Buffer {
  const key = Buffer.alloc(17);
  key.writeBigUInt64BE(BigInt(main), 0);
  key.write("_", 8);
  return isDeletion ? Buffer.concat([key, Buffer.from("t")]) : key;
}

/** Returns the record of one revision of a key: an mvccpb.KeyValue. */
export function keyValue(key: string, value: Buffer, revision: number): Buffer {
  const field = (tag: number, content: Buffer): Buffer =>
    Buffer.concat([Buffer.from([tag, ...varint(content.length)]), content]);
  const revisions = Buffer.from([0x10, ...varint(revision), 0x18, ...varint(revision), 0x20, 1]);
  // A lease has a random id of 63 bits.
  const lease = Buffer.from([0x30, ...Array.from({ length: 8 }, () => 0xff), 0x7f]);
  return Buffer.concat([field(0x0a, Buffer.from(key)), revisions, field(0x2a, value), lease]);
}

/** Returns the element of a change of the key `/registry/secrets/ns/<name>`. */
export function put(revision: number, name = `object-${revision}`): LeafElement {
  return [revisionKey(revision), keyValue(`/registry/secrets/ns/${name}`, VALUE, revision)];
}

/** Returns the element of a deletion. */
export function deletion(revision: number, name: string): LeafElement {
  return [revisionKey(revision, true), keyValue(`/registry/secrets/ns/${name}`, Buffer.alloc(0), 0)];
}

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
}

/**
 * Returns a database: page 2 is the root, with the bucket `key` at page 3; the given pages follow each other from page
 * 3 on.
 */
export function database(pages: readonly Buffer[], overrides: Partial<MetaParts> = {}): Buffer {
  const pageSize = overrides.pageSize ?? 4096;
  const root = leafPage(2, [[Buffer.from("key"), bucketAt(3), 1]], pageSize);
  const content = Buffer.concat([root, ...pages]);
  const meta = { pageSize, root: 2, pages: 2 + content.length / pageSize, ...overrides };
  return Buffer.concat([
    metaPage({ transaction: 8, ...meta }),
    metaPage({ ...meta, transaction: 7 }),
    content,
  ]);
}

/** Returns a file as `etcdctl snapshot save` writes it: the database and its SHA-256. */
export function withHash(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, createHash("sha256").update(bytes).digest()]);
}

/** Returns a sound database with two objects. */
export function soundDatabase(): Buffer {
  return database([leafPage(3, [put(2), put(3)])]);
}

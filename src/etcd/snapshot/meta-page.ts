// The meta pages of a bbolt file, pages 0 and 1: a commit overwrites the older of the two, so at least one of them is
// valid at any time (go.etcd.io/bbolt, internal/common/meta.go).
import type { SnapshotFile } from "./snapshot-file.js";

export interface Meta {
  readonly pageSize: number;
  /** The page with the root of the bucket of buckets. */
  readonly root: number;
  /** Every page id is below this. */
  readonly pages: number;
  readonly transaction: number;
}

export const PAGE_HEADER_BYTES = 16;
const META_BYTES = 64;
const CHECKED_BYTES = 56;
const MAGIC = 0xed0cdaed;
const VERSION = 2;
/** The page size is that of the system on which etcd created the file; bbolt opens files with these sizes. */
const PAGE_SIZES = Array.from({ length: 15 }, (_, power) => 1024 << power);

const FNV_OFFSET = 0xcbf29ce484222325n;
const FNV_PRIME = 0x100000001b3n;

/** Returns the valid meta page with the higher transaction id. @throws KmsError CONFIG_INVALID if none is valid */
export function readMeta(file: SnapshotFile): Meta {
  const first = metaAt(file, 0);
  // A valid page 0 names the page size. If it is not valid, page 1 can begin at the end of a page of any size.
  const sizes = typeof first === "object" ? [first.pageSize] : PAGE_SIZES;
  const found = [first, ...sizes.map((size) => metaAt(file, size, size))];
  const [newest] = found
    .filter((meta) => typeof meta === "object")
    .sort((one, other) => other.transaction - one.transaction);
  if (newest !== undefined) return newest;
  if (found.includes("big-endian")) {
    throw file.notASnapshot(
      "it was written on a machine of the other byte order, such as s390x, where it can be restored",
    );
  }
  throw found.includes("invalid")
    ? file.damaged("both of its meta pages are invalid")
    : file.notASnapshot("it has no bbolt meta page");
}

function metaAt(
  file: SnapshotFile,
  offset: number,
  expectedSize?: number,
): Meta | "none" | "invalid" | "big-endian" {
  if (offset + PAGE_HEADER_BYTES + META_BYTES > file.bytes) return "none";
  const bytes = file.read(offset + PAGE_HEADER_BYTES, META_BYTES);
  if (bytes.readUInt32BE(0) === MAGIC) return "big-endian";
  if (bytes.readUInt32LE(0) !== MAGIC) return "none";
  const pageSize = bytes.readUInt32LE(8);
  const isValid =
    bytes.readUInt32LE(4) === VERSION &&
    PAGE_SIZES.includes(pageSize) &&
    (expectedSize === undefined || pageSize === expectedSize) &&
    bytes.readBigUInt64LE(CHECKED_BYTES) === fnv1a(bytes.subarray(0, CHECKED_BYTES));
  if (!isValid) return "invalid";
  return {
    pageSize,
    root: Number(bytes.readBigUInt64LE(16)),
    pages: Number(bytes.readBigUInt64LE(40)),
    transaction: Number(bytes.readBigUInt64LE(48)),
  };
}

/** Returns the 64-bit FNV-1a hash. */
export function fnv1a(bytes: Uint8Array): bigint {
  let hash = FNV_OFFSET;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * FNV_PRIME);
  return hash;
}

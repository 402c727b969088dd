// The records of etcd in its database: the bucket `key` holds every revision of every key that has not been compacted,
// in the order of the revisions, and the bucket `meta` the compactions (go.etcd.io/etcd/server, storage/mvcc).
import { readKeyValue, type EtcdEntry } from "../key-value.js";
import type { Database } from "./bucket.js";
import type { SnapshotFile } from "./snapshot-file.js";

/** One change of a key. */
export interface Change {
  readonly entry: EtcdEntry;
  /** The change deleted the key; the entry then holds only its name. */
  readonly isDeletion: boolean;
}

/** The changes of one page of the database, the latest first. */
export interface Changes {
  readonly changes: readonly Change[];
  /** The estimated fraction of all changes that are later than these, from 0 to 1. */
  readonly walked: number;
}

/** 8 bytes for the revision, `_`, 8 bytes for the change in it; a deletion ends with another byte, `t`. */
const REVISION_BYTES = 17;
const SEPARATOR = "_".charCodeAt(0);
const TOMBSTONE = "t".charCodeAt(0);
/** If all changes after a compaction were compacted away, etcd's revision is the later of these two. */
const COMPACTIONS = ["finishedCompactRev", "scheduledCompactRev"];

/** Returns etcd's revision. @throws KmsError CONFIG_INVALID if the file is damaged or not a database of etcd */
export function revisionOf(database: Database, file: SnapshotFile): number {
  const meta = database.bucket("meta");
  const revisions = COMPACTIONS.map((name) => {
    const found = meta?.find(Buffer.from(name));
    return found === undefined ? 1 : mainRevision(found.page.value(found.index), file);
  });
  for (const { page } of keyBucket(database, file).leavesFromEnd()) {
    if (page.count > 0) revisions.push(mainRevision(page.key(page.count - 1), file));
    break;
  }
  return Math.max(...revisions);
}

/** Yields all changes, the latest first. @throws KmsError CONFIG_INVALID if the file is damaged */
export function* changesFromEnd(database: Database, file: SnapshotFile): Generator<Changes, void> {
  for (const { page, walked } of keyBucket(database, file).leavesFromEnd()) {
    const changes: Change[] = [];
    for (let index = page.count - 1; index >= 0; index--) {
      const key = page.key(index);
      mainRevision(key, file);
      const entry = database.checked(page.id, () =>
        readKeyValue(page.bytes, page.keyEnd(index), page.valueEnd(index)),
      );
      changes.push({ entry, isDeletion: key.length > REVISION_BYTES });
    }
    yield { changes, walked };
  }
}

function keyBucket(database: Database, file: SnapshotFile): NonNullable<ReturnType<Database["bucket"]>> {
  const bucket = database.bucket("key");
  if (bucket === undefined) throw file.notASnapshot(`it has no bucket "key"`);
  return bucket;
}

function mainRevision(key: Buffer, file: SnapshotFile): number {
  const isDeletion = key.length === REVISION_BYTES + 1 && key[REVISION_BYTES] === TOMBSTONE;
  if ((key.length !== REVISION_BYTES && !isDeletion) || key[8] !== SEPARATOR) {
    throw file.damaged("a record is not named by a revision");
  }
  const revision = key.readUInt32BE(0) * 2 ** 32 + key.readUInt32BE(4);
  if (!Number.isSafeInteger(revision)) throw file.damaged(`the revision ${revision} is too high`);
  return revision;
}

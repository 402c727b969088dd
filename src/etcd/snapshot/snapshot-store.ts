// Reads the objects in a snapshot file of etcd without an etcd program: the latest revision of each key that was not
// deleted, as a restored etcd would serve it. Memory grows by at most 48 bytes for each key under the prefix.
import { setImmediate as nextTurn } from "node:timers/promises";
import { KmsError } from "../../errors.js";
import type { EtcdEntry } from "../key-value.js";
import { normalPrefix } from "../storage-key.js";
import { storedObject, type Batch, type ObjectStore, type StoredObject } from "../store.js";
import type { RangeObserver, Revisions } from "../range-scan.js";
import { BatchBuilder } from "./batch-builder.js";
import { Database } from "./bucket.js";
import { changesFromEnd, revisionOf, type Change } from "./revisions.js";
import { SeenKeys } from "./seen-keys.js";
import { SnapshotFile, type SnapshotOptions } from "./snapshot-file.js";

/** Pages are read synchronously; signals and timers get their turn after this many of them. */
const PAGES_PER_TURN = 64;

export class Snapshot {
  /** The file's digest in hexadecimal. */
  readonly sha256: string;
  readonly #file: SnapshotFile;

  private constructor(file: SnapshotFile, sha256: string) {
    this.#file = file;
    this.sha256 = sha256;
  }

  /** Opens a file and verifies its hash. @throws KmsError CONFIG_INVALID if it is not a sound snapshot */
  static async open(path: string, options: SnapshotOptions): Promise<Snapshot> {
    const file = await SnapshotFile.open(path, options.option);
    try {
      // Checked before the hash: for another kind of file, a missing hash would be a misleading reason.
      new Database(file);
      return new Snapshot(file, await file.verify(options));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** When the file was written last, in ms since the epoch. */
  get writtenAt(): number {
    return this.#file.writtenAt;
  }

  /** @param prefix kube-apiserver's `--etcd-prefix` or a longer one, with or without slashes at either end */
  store(prefix: string): ObjectStore {
    return new SnapshotStore(this.#file, prefix);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

class SnapshotStore implements ObjectStore {
  readonly #file: SnapshotFile;
  readonly #prefix: Buffer;
  #revisions: Revisions | undefined;

  constructor(file: SnapshotFile, prefix: string) {
    this.#file = file;
    this.#prefix = Buffer.from(normalPrefix(prefix));
  }

  get revisions(): Revisions | undefined {
    return this.#revisions;
  }

  /** Yields the objects, those that were changed last first. @throws KmsError CONFIG_INVALID if the file is damaged */
  async *objects(observer: RangeObserver = {}): AsyncGenerator<StoredObject, void> {
    for await (const entries of this.#latest(observer)) yield* entries.map(storedObject);
  }

  /** Yields the objects in batches, those that were changed last first. @throws KmsError as `objects` does */
  async *batches(observer: RangeObserver = {}): AsyncGenerator<Batch, void> {
    const builder = new BatchBuilder();
    for await (const entries of this.#latest(observer)) {
      for (const entry of entries) {
        if (builder.isFullFor(entry)) yield builder.take();
        builder.add(entry);
      }
    }
    if (!builder.isEmpty) yield builder.take();
  }

  /** Yields the latest revision of each key that was not deleted, in lists. */
  async *#latest(observer: RangeObserver): AsyncGenerator<EtcdEntry[], void> {
    const seen = new SeenKeys();
    let read = 0;
    for await (const { changes, walked } of this.#pages()) {
      if (walked > 0) observer.total?.(Math.round(read / walked), true);
      const entries: EtcdEntry[] = [];
      for (const { entry, isDeletion } of changes) {
        if (!startsWith(entry.key, this.#prefix) || !seen.add(entry.key) || isDeletion) continue;
        entries.push(entry);
      }
      read += entries.length;
      if (entries.length > 0) yield entries;
    }
  }

  /** Returns one object; undefined if there is no such key. @throws KmsError CONFIG_INVALID if the file is damaged */
  async object(key: string): Promise<StoredObject | undefined> {
    const wanted = Buffer.from(key);
    for await (const { changes } of this.#pages()) {
      const latest = changes.find(({ entry }) => entry.key.equals(wanted));
      if (latest !== undefined) return latest.isDeletion ? undefined : storedObject(latest.entry);
    }
    return undefined;
  }

  /** Yields the changes page by page, the latest first. Damage may come from writing to the file meanwhile. */
  async *#pages(): AsyncGenerator<{ readonly changes: readonly Change[]; readonly walked: number }, void> {
    try {
      const database = new Database(this.#file);
      const revision = revisionOf(database, this.#file);
      this.#revisions = { first: revision, last: revision };
      let pages = 0;
      for (const page of changesFromEnd(database, this.#file)) {
        yield page;
        if (++pages % PAGES_PER_TURN === 0) await nextTurn();
      }
    } catch (error) {
      if (error instanceof KmsError) await this.#file.requireUnchanged();
      throw error;
    }
    await this.#file.requireUnchanged();
  }
}

function startsWith(key: Buffer, prefix: Buffer): boolean {
  return key.length >= prefix.length && key.compare(prefix, 0, prefix.length, 0, prefix.length) === 0;
}

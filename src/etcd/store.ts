// The objects under a prefix of a running etcd: one by one in the order of their keys, or page by page, several requests at a
// time. Either way at one revision and with bounded memory.
import { isUtf8 } from "node:buffer";
import { KmsError } from "../errors.js";
import { parseStoredValue, type StoredValue } from "./stored-object.js";
import type { EtcdClient } from "./client.js";
import type { EtcdEntry } from "./key-value.js";
import { RangeScan, type RangeObserver, type Revisions } from "./range-scan.js";
import type { RangePage } from "./range-response.js";
import { normalPrefix } from "./storage-key.js";

/** Enough that neither network latency nor one slow range holds up the rest, and both cores have work. */
const PARALLEL_RANGES = 4;

export interface StoredObject {
  readonly key: string;
  readonly createRevision: number;
  readonly modRevision: number;
  /** A KmsError if the value or its key cannot be read. */
  readonly value: StoredValue | KmsError;
}

/** Several objects as they are stored. */
export interface Batch {
  /** The fields `kvs` of an etcdserverpb.RangeResponse, perhaps with others. The batch's own buffer. */
  readonly bytes: Buffer;
  readonly objects: number;
}

/** The objects under a prefix, in a running etcd or in a snapshot. */
export interface ObjectStore {
  /** Yields all objects, each once. @throws KmsError if the source cannot be read */
  objects(observer?: RangeObserver): AsyncGenerator<StoredObject, void>;
  /** Yields all objects, each once, in batches in any order. @throws KmsError if the source cannot be read */
  batches(observer?: RangeObserver): AsyncGenerator<Batch, void>;
  /** The revisions of the last scan; undefined before its first page. */
  readonly revisions: Revisions | undefined;
  /** Returns one object; undefined if there is no such key. @throws KmsError if the source cannot be read */
  object(key: string): Promise<StoredObject | undefined>;
}

export class EtcdStore implements ObjectStore {
  readonly #client: EtcdClient;
  readonly #prefix: string;
  readonly #end: Buffer;
  #scan: RangeScan | undefined;

  /** @param prefix kube-apiserver's `--etcd-prefix` or a longer one, with or without slashes at either end */
  constructor(client: EtcdClient, prefix: string) {
    this.#client = client;
    this.#prefix = normalPrefix(prefix);
    this.#end = prefixEnd(this.#prefix);
  }

  /**
   * Yields all keys at one revision, in their order. If etcd compacts that revision during the scan (kube-apiserver
   * compacts every 5 min what is 5 to 10 min old), the remaining keys are read at a newer one, which `revisions` shows. Each
   * key is still read once, at or after the first revision.
   * @throws KmsError PEER_UNREACHABLE
   */
  async *objects(observer: RangeObserver = {}): AsyncGenerator<StoredObject, void> {
    for await (const page of this.#pages(1, observer)) {
      for (const entry of page.entries()) yield storedObject(entry);
    }
  }

  /** Yields all keys as `objects` does, in any order. @throws KmsError PEER_UNREACHABLE */
  async *batches(observer: RangeObserver = {}): AsyncGenerator<Batch, void> {
    for await (const page of this.#pages(PARALLEL_RANGES, observer)) {
      yield { bytes: page.message, objects: page.length };
    }
  }

  /** The revisions of the last scan; undefined before its first page. */
  get revisions(): Revisions | undefined {
    return this.#scan?.revisions;
  }

  /** Returns one object; undefined if there is no such key. @throws KmsError PEER_UNREACHABLE */
  async object(key: string): Promise<StoredObject | undefined> {
    const page = await this.#client.range({ key: Buffer.from(key), limit: 1 });
    if (typeof page === "string") throw new KmsError("PEER_UNREACHABLE", `etcd refuses ${key}: ${page}`);
    const [entry] = page.entries();
    return entry && storedObject(entry);
  }

  /** Returns the newest revision. @throws KmsError PEER_UNREACHABLE */
  async revision(): Promise<number> {
    const page = await this.#client.range({ key: Buffer.from(this.#prefix), limit: 1 });
    if (typeof page === "string") {
      throw new KmsError("PEER_UNREACHABLE", `etcd does not report its revision: ${page}`);
    }
    return page.revision;
  }

  #pages(parallel: number, observer: RangeObserver): AsyncGenerator<RangePage, void> {
    const interval = { from: Buffer.from(this.#prefix), to: this.#end };
    this.#scan = new RangeScan(this.#client, interval, observer);
    return this.#scan.pages(parallel);
  }
}

/** Returns the object in an entry of etcd. */
export function storedObject({ key, value, createRevision, modRevision }: EtcdEntry): StoredObject {
  return { key: key.toString(), createRevision, modRevision, value: valueOf(key, value) };
}

function valueOf(key: Buffer, value: Buffer): StoredValue | KmsError {
  if (!isUtf8(key)) {
    return new KmsError("INPUT_INVALID", "the key is not UTF-8, so Kubernetes did not write it");
  }
  try {
    return parseStoredValue(value);
  } catch (error) {
    return KmsError.from(error);
  }
}

/** Returns the first key behind those that start with the prefix; no byte of the prefix is 0xff, since it is UTF-8. */
function prefixEnd(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  const last = end.length - 1;
  end.writeUInt8(end.readUInt8(last) + 1, last);
  return end;
}

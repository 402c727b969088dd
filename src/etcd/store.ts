// Reads every object under a prefix of etcd, in the order of the keys, at one revision and with bounded memory: in
// pages of about the same number of bytes, of which the next is fetched while one is processed.
import { isUtf8 } from "node:buffer";
import { KmsError } from "../errors.js";
import { parseStoredValue, type StoredValue } from "./stored-object.js";
import type { EtcdClient } from "./client.js";
import { beyondGap, extrapolate } from "./key-interval.js";
import type { EtcdEntry } from "./key-value.js";
import type { RangePage } from "./range-response.js";
import { normalPrefix } from "./storage-key.js";

/** Two pages are in memory at a time; in the worst case each is as large as a message may be. */
const PAGE_BYTES = 4 * 1024 * 1024;
const FIRST_LIMIT = 100;
const MAX_LIMIT = 20_000;
/** etcd counts the remaining keys of a range for each page: a range is shortened if it has more pages than this. */
const MAX_PAGES = 8;
/** The pages that a range should have. */
const PAGES = 2;

export interface StoredObject {
  readonly key: string;
  readonly createRevision: number;
  readonly modRevision: number;
  /** A KmsError if the value or its key cannot be read. */
  readonly value: StoredValue | KmsError;
}

export interface StoreObserver {
  /** Receives the number of keys, or an estimate: at the start, and whenever it is corrected. */
  total?(objects: number): void;
  /** The revision was compacted during the reading: the remaining keys are read at `revision`. */
  compacted?(revision: number): void;
}

/** The revisions at which keys were read; they differ only if the first was compacted during the reading. */
export interface Revisions {
  readonly first: number;
  readonly last: number;
}

/** The objects under a prefix, in a running etcd or in a snapshot. */
export interface ObjectStore {
  /** Yields all objects, each once. @throws KmsError if the source cannot be read */
  objects(observer?: StoreObserver): AsyncGenerator<StoredObject, void>;
  /** The revisions of the last reading; undefined before its first page. */
  readonly revisions: Revisions | undefined;
  /** Returns one object; undefined if there is no such key. @throws KmsError if the source cannot be read */
  object(key: string): Promise<StoredObject | undefined>;
}

export class EtcdStore implements ObjectStore {
  readonly #client: EtcdClient;
  readonly #prefix: string;
  readonly #end: Buffer;
  #revisions: Revisions | undefined;

  /** @param prefix kube-apiserver's `--etcd-prefix` or a longer one, with or without slashes at either end */
  constructor(client: EtcdClient, prefix: string) {
    this.#client = client;
    this.#prefix = normalPrefix(prefix);
    this.#end = prefixEnd(this.#prefix);
  }

  /**
   * Yields all keys at one revision. If etcd compacts that revision during the reading (kube-apiserver compacts every 5
   * min what is 5 to 10 min old), the remaining keys are read at a newer one, which `revisions` shows. Each key is
   * still read once, at or after the first revision.
   * @throws KmsError PEER_UNREACHABLE
   */
  async *objects(observer: StoreObserver = {}): AsyncGenerator<StoredObject, void> {
    let request: PageRequest | undefined = {
      key: Buffer.from(this.#prefix),
      end: this.#end,
      limit: FIRST_LIMIT,
      revision: undefined,
      gaps: 0,
    };
    let read = 0;
    this.#revisions = undefined;
    let next: Promise<FetchedPage> | undefined = this.#fetch(request);
    while (next !== undefined) {
      const { page, answered }: FetchedPage = await next;
      if (request?.revision !== answered.revision) {
        this.#moveTo(answered.revision, read + page.count, observer);
      }
      request = nextRequest(answered, page, this.#end);
      next = request && this.#fetch(request);
      // Awaited after this page has been processed; until then a failure must not count as unhandled.
      next?.catch(() => undefined);
      for (const entry of page.entries()) yield storedObject(entry);
      read += page.length;
    }
  }

  /** The revisions of the last reading; undefined before its first page. */
  get revisions(): Revisions | undefined {
    return this.#revisions;
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

  #moveTo(revision: number, total: number, observer: StoreObserver): void {
    observer.total?.(total);
    if (this.#revisions !== undefined) observer.compacted?.(revision);
    this.#revisions = { first: this.#revisions?.first ?? revision, last: revision };
  }

  /** Fetches a page: a smaller one if it does not fit a message, at the newest revision if its own was compacted. */
  async #fetch({ key, gaps, ...first }: PageRequest): Promise<FetchedPage> {
    let { end, limit, revision } = first;
    for (;;) {
      const page = await this.#client.range({ key, end, limit, ...(revision !== undefined && { revision }) });
      if (typeof page !== "string") {
        return { page, answered: { key, end, limit, revision: revision ?? page.revision, gaps } };
      }
      if (page === "compacted") {
        revision = undefined;
        // The number of all remaining keys may have changed.
        end = this.#end;
      } else if (limit > 1) limit = Math.ceil(limit / 8);
      else {
        throw new KmsError(
          "PEER_UNREACHABLE",
          "etcd cannot return the next object: it is too large for a message",
        );
      }
    }
  }
}

interface PageRequest {
  readonly key: Buffer;
  /** The end of this range, which may lie before that of all keys. */
  readonly end: Buffer;
  readonly limit: number;
  /** Undefined before the first answer. */
  readonly revision: number | undefined;
  /** The number of ranges without keys that directly precede this one. */
  readonly gaps: number;
}

interface FetchedPage {
  readonly page: RangePage;
  /** The request that was answered; its limit and revision may differ from those first requested. */
  readonly answered: AnsweredRequest;
}

interface AnsweredRequest extends PageRequest {
  readonly revision: number;
}

/** Returns the request for the keys after a page; undefined after the last one. */
function nextRequest(answered: AnsweredRequest, page: RangePage, lastEnd: Buffer): PageRequest | undefined {
  const { key, end, revision } = answered;
  const { length, first, last, count, more } = page;
  const limit = nextLimit(answered.limit, page);
  if (more && length > 0) {
    const isLong = count - length > MAX_PAGES * limit;
    const near = isLong ? extrapolate(first, last, (PAGES * limit) / length, end) : end;
    return { key: Buffer.concat([last, Buffer.of(0)]), end: near, limit, revision, gaps: 0 };
  }
  if (end.equals(lastEnd)) return undefined;
  const gaps = count === 0 ? answered.gaps + 1 : 0;
  const further =
    count === 0
      ? beyondGap(key, end, gaps, lastEnd)
      : extrapolate(key, end, (PAGES * limit) / count, lastEnd);
  return { key: end, end: further, limit, revision, gaps };
}

/** Returns a limit that makes the next page about PAGE_BYTES. */
function nextLimit(limit: number, { length, bytes }: RangePage): number {
  if (length === 0) return limit;
  const fitting = Math.floor((PAGE_BYTES / bytes) * length);
  // Large objects may follow small ones, so the limit grows step by step.
  return Math.max(1, Math.min(fitting, limit * 4, MAX_LIMIT));
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

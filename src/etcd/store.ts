// Every object under a prefix of etcd, in the order of the keys, with bounded memory: pages of about the same number
// of bytes at one revision, the next one fetched while one is worked on.
import { isUtf8 } from "node:buffer";
import { KmsError } from "../errors.js";
import { parseStoredValue, type StoredValue } from "./stored-object.js";
import type { EtcdClient, EtcdEntry, RangePage } from "./client.js";
import { normalPrefix } from "./storage-key.js";

/** Two pages are in memory at a time, each up to the size of a message in the worst case. */
const PAGE_BYTES = 4 * 1024 * 1024;
const FIRST_LIMIT = 100;
/** etcd counts the rest of the range anew for each page: few large pages of small objects cost it less. */
const MAX_LIMIT = 20_000;

export interface StoredObject {
  readonly key: string;
  readonly createRevision: number;
  readonly modRevision: number;
  /** The KmsError says why a value, or its key, cannot be read. */
  readonly value: StoredValue | KmsError;
}

export interface StoreObserver {
  /** How many keys there are, as far as is known; called at the start and when a revision is given up. */
  total?(objects: number): void;
  /** The revision was compacted while it was read: the keys that are left are read at a newer one. */
  movedOn?(revision: number): void;
}

/** The revisions at which keys were read: the same unless the first was compacted meanwhile. */
export interface Revisions {
  readonly first: number;
  readonly last: number;
}

export class EtcdStore {
  readonly #client: EtcdClient;
  readonly #prefix: string;
  #revisions: Revisions | undefined;

  /** @param prefix kube-apiserver's `--etcd-prefix` or a longer one, with or without its slashes */
  constructor(client: EtcdClient, prefix: string) {
    this.#client = client;
    this.#prefix = normalPrefix(prefix);
  }

  /**
   * All keys as they were at one revision. When etcd compacts it away (kube-apiserver asks for that every 5 min,
   * and what is 5 to 10 min old goes), the rest is read at a newer revision, and `revisions` says so: each key is
   * still read once, as it was at or after the first.
   * @throws KmsError PEER_UNREACHABLE
   */
  async *objects(observer: StoreObserver = {}): AsyncGenerator<StoredObject, void> {
    const end = prefixEnd(this.#prefix);
    let place: Place = { key: Buffer.from(this.#prefix), end, limit: FIRST_LIMIT, revision: undefined };
    let read = 0;
    this.#revisions = undefined;
    let next: Promise<Fetched> | undefined = this.#fetch(place);
    while (next !== undefined) {
      const { page, place: at }: Fetched = await next;
      if (place.revision !== at.revision) this.#moveTo(at.revision, read + page.count, observer);
      place = following(at, page);
      next = page.more ? this.#fetch(place) : undefined;
      // Awaited when this page has been worked off; until then its failure is not unhandled.
      next?.catch(() => undefined);
      for (const entry of page.entries) yield parse(entry);
      read += page.entries.length;
    }
  }

  /** Of the last reading; undefined before its first page. */
  get revisions(): Revisions | undefined {
    return this.#revisions;
  }

  /** @returns undefined when there is no such key. @throws KmsError PEER_UNREACHABLE */
  async object(key: string): Promise<StoredObject | undefined> {
    const page = await this.#client.range({ key: Buffer.from(key), limit: 1 });
    if (typeof page === "string") throw new KmsError("PEER_UNREACHABLE", `etcd refuses ${key}: ${page}`);
    const [entry] = page.entries;
    return entry && parse(entry);
  }

  /** Returns the newest revision. @throws KmsError PEER_UNREACHABLE */
  async revision(): Promise<number> {
    const page = await this.#client.range({ key: Buffer.from(this.#prefix), limit: 1 });
    if (typeof page === "string") throw new KmsError("PEER_UNREACHABLE", `etcd tells no revision: ${page}`);
    return page.revision;
  }

  #moveTo(revision: number, total: number, observer: StoreObserver): void {
    observer.total?.(total);
    if (this.#revisions !== undefined) observer.movedOn?.(revision);
    this.#revisions = { first: this.#revisions?.first ?? revision, last: revision };
  }

  /** A page from a place on; smaller when it does not fit, at the newest revision when its own has gone. */
  async #fetch(place: Place): Promise<Fetched> {
    let { limit, revision } = place;
    for (;;) {
      const { key, end } = place;
      const page = await this.#client.range({ key, end, limit, ...(revision !== undefined && { revision }) });
      if (typeof page !== "string") {
        return { page, place: { key, end, limit, revision: revision ?? page.revision } };
      }
      if (page === "compacted") revision = undefined;
      else if (limit > 1) limit = Math.ceil(limit / 8);
      else {
        throw new KmsError(
          "PEER_UNREACHABLE",
          "etcd does not answer with the next object: it is too large for a message",
        );
      }
    }
  }
}

interface Place {
  readonly key: Buffer;
  readonly end: Buffer;
  readonly limit: number;
  /** Undefined before the first answer has told it. */
  readonly revision: number | undefined;
}

interface Fetched {
  readonly page: RangePage;
  /** Where it was fetched, after all. */
  readonly place: Place & { readonly revision: number };
}

/** Directly behind the last key, with a limit that makes the next page about PAGE_BYTES. */
function following({ end, limit, key, revision }: Place, { entries }: RangePage): Place {
  const last = entries.at(-1);
  if (last === undefined) return { key, end, limit, revision };
  const bytes = entries.reduce((sum, entry) => sum + entry.key.length + entry.value.length, 0);
  const fitting = Math.floor((PAGE_BYTES / Math.max(bytes, 1)) * entries.length);
  return {
    key: Buffer.concat([last.key, Buffer.of(0)]),
    end,
    // Small objects may be followed by large ones: the limit grows step by step.
    limit: Math.max(1, Math.min(fitting, limit * 4, MAX_LIMIT)),
    revision,
  };
}

function parse({ key, value, createRevision, modRevision }: EtcdEntry): StoredObject {
  return { key: key.toString(), createRevision, modRevision, value: valueOf(key, value) };
}

function valueOf(key: Buffer, value: Buffer): StoredValue | KmsError {
  if (!isUtf8(key)) return new KmsError("INPUT_INVALID", "the key is not UTF-8, hence not Kubernetes'");
  try {
    return parseStoredValue(value);
  } catch (error) {
    return KmsError.from(error);
  }
}

/** The first key after all that start with the prefix; the prefix is ASCII or UTF-8, whose bytes stay below 0xff. */
function prefixEnd(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  const last = end.length - 1;
  end.writeUInt8(end.readUInt8(last) + 1, last);
  return end;
}

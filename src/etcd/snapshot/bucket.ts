// The B+ trees of a bbolt file: finds a bucket and a key in it, and walks its leaves from the last to the first with one
// page per level in memory. A damaged or hostile file causes an error: ids out of range, cycles, pages in the wrong order.
import { KmsError } from "../../errors.js";
import { readMeta, type Meta } from "./meta-page.js";
import { Page, readU64 } from "./page.js";
import type { SnapshotFile } from "./snapshot-file.js";

/** bbolt puts at least two keys in a page, so real trees have fewer than ten levels. */
const MAX_DEPTH = 32;
/** A leaf holds up to three values, which etcd limits to 1.5 MB unless its --max-request-bytes says otherwise. */
const MAX_PAGE_BYTES = 128 * 1024 * 1024;
/** A bucket's value: its root page and a sequence number; an inline page follows if the root is 0. */
const BUCKET_HEADER_BYTES = 16;
/** Small pages are read into pieces of a larger buffer, since a buffer for each page would cost more than reading the page. */
const CHUNK_BYTES = 256 * 1024;

export class Database {
  readonly #file: SnapshotFile;
  readonly #meta: Meta;
  #chunk: Buffer = Buffer.alloc(0);

  /** @throws KmsError CONFIG_INVALID if the file is not a bbolt database, or truncated */
  constructor(file: SnapshotFile) {
    this.#file = file;
    this.#meta = readMeta(file);
    const { pages, pageSize } = this.#meta;
    if (pages * pageSize > file.bytes) {
      throw file.damaged(`it has ${file.bytes} bytes, but its ${pages} pages need ${pages * pageSize}`);
    }
  }

  /** Returns a bucket of the top level; undefined if there is no such bucket. @throws KmsError CONFIG_INVALID */
  bucket(name: string): Bucket | undefined {
    const found = new Bucket(this, this.page(this.#meta.root)).find(Buffer.from(name));
    if (found === undefined) return undefined;
    const { page, index } = found;
    const value = page.value(index);
    if (!page.isBucket(index) || value.length < BUCKET_HEADER_BYTES) {
      throw this.#file.damaged(`"${name}" is not a bucket`);
    }
    const root = readU64(value, 0);
    return new Bucket(this, root === 0 ? this.#inline(value.subarray(BUCKET_HEADER_BYTES)) : this.page(root));
  }

  /** Reads a page with its overflow. @throws KmsError CONFIG_INVALID if it is damaged */
  page(id: number): Page {
    const { pages, pageSize } = this.#meta;
    if (id < 2 || id >= pages) throw this.#file.damaged(`page ${id} is not one of its ${pages} pages`);
    const first = this.#buffer(pageSize);
    this.#file.readInto(first, id * pageSize);
    const overflow = first.readUInt32LE(12);
    if (overflow === 0) return this.checked(id, () => new Page(id, first));
    const bytes = (overflow + 1) * pageSize;
    if (id + overflow >= pages || bytes > MAX_PAGE_BYTES) {
      throw this.#file.damaged(`page ${id} claims ${bytes} bytes`);
    }
    const whole = this.#file.read(id * pageSize, bytes);
    return this.checked(id, () => new Page(id, whole));
  }

  /** Performs a check; an error names the page. @throws KmsError CONFIG_INVALID */
  checked<T>(id: number, check: () => T): T {
    try {
      return check();
    } catch (error) {
      throw error instanceof KmsError ? error : this.#file.damaged(`page ${id}: ${(error as Error).message}`);
    }
  }

  #inline(bytes: Buffer): Page {
    const page = this.checked(0, () => new Page(0, bytes));
    if (!page.isLeaf) throw this.#file.damaged("an inline bucket is not a leaf");
    return page;
  }

  #buffer(length: number): Buffer {
    if (length * 4 > CHUNK_BYTES) return Buffer.allocUnsafeSlow(length);
    if (this.#chunk.length < length) this.#chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    const buffer = this.#chunk.subarray(0, length);
    this.#chunk = this.#chunk.subarray(length);
    return buffer;
  }
}

/** A position in a branch page: the elements after `index` have been walked. */
interface Level {
  readonly page: Page;
  index: number;
}

export interface Leaf {
  readonly page: Page;
  /** The fraction of the bucket after this leaf, from 0 to 1, as the branches suggest it. */
  readonly walked: number;
}

const LOWEST_KEY = Buffer.alloc(0);

export class Bucket {
  readonly #database: Database;
  readonly #root: Page;

  constructor(database: Database, root: Page) {
    this.#database = database;
    this.#root = root;
  }

  /** Returns the element with a key; undefined if there is none. @throws KmsError CONFIG_INVALID */
  find(key: Buffer): { readonly page: Page; readonly index: number } | undefined {
    let page = this.#root;
    for (let depth = 0; !page.isLeaf; depth++) {
      const index = page.indexOf(key);
      if (index < 0) return undefined;
      this.#requireDepth(depth, page);
      page = this.#database.page(page.child(index));
    }
    const index = page.indexOf(key);
    return index >= 0 && page.key(index).equals(key) ? { page, index } : undefined;
  }

  /** Yields the leaves from the last to the first; their keys descend strictly. @throws KmsError CONFIG_INVALID */
  *leavesFromEnd(): Generator<Leaf, void> {
    const levels: Level[] = [];
    let below: Buffer | undefined;
    let page = this.#root;
    let from: Buffer = LOWEST_KEY;
    for (;;) {
      this.#requireSound(page, levels, from, below);
      if (page.isLeaf) {
        yield { page, walked: walkedPart(levels) };
        if (page.count > 0) below = page.key(0);
      } else levels.push({ page, index: page.count });
      while (levels.at(-1)?.index === 0) levels.pop();
      const level = levels.at(-1);
      if (level === undefined) return;
      level.index--;
      from = level.page.key(level.index);
      page = this.#database.page(level.page.child(level.index));
    }
  }

  #requireSound(page: Page, levels: readonly Level[], from: Buffer, below: Buffer | undefined): void {
    this.#requireDepth(levels.length, page);
    this.#database.checked(page.id, () => {
      if (page.count === 0 && page !== this.#root) throw new Error("it is empty");
      if (levels.some((level) => level.page.id === page.id)) throw new Error("it contains itself");
      page.requireOrder(from, below);
    });
  }

  #requireDepth(depth: number, page: Page): void {
    this.#database.checked(page.id, () => {
      if (depth >= MAX_DEPTH) throw new Error(`it is more than ${MAX_DEPTH} levels deep`);
    });
  }
}

function walkedPart(levels: readonly Level[]): number {
  let [position, width] = [0, 1];
  for (const { page, index } of levels) {
    width /= page.count;
    position += (page.count - 1 - index) * width;
  }
  return position;
}

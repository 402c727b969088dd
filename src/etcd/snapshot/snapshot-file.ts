// The bytes of a snapshot file: opens it, verifies the SHA-256 that `etcdctl snapshot save` appends, as etcdutl does, and
// reads at offsets. Knows nothing of pages. The file is not copied; a change while it is read is an error.
import { createHash } from "node:crypto";
import { readSync, type BigIntStats } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { KmsError } from "../../errors.js";
import { unreadable } from "../../files/file-error.js";
import { openRegular } from "../../files/regular-file.js";

export interface SnapshotOptions {
  /** Reads a database without a hash, such as a copy of member/snap/db, or one whose hash is wrong. */
  readonly skipHashCheck: boolean;
  /** Called with the number of bytes whose hash has been computed, and the file's. */
  readonly onHashed?: (bytes: number, total: number) => void;
  /** The option that named the file, for messages; default: --snapshot. */
  readonly option?: string;
}

const HASH_BYTES = 32;
/** A database consists of whole pages, each a multiple of this: a file with 32 more bytes ends with a hash. */
const SECTOR_BYTES = 512;
const CHUNK_BYTES = 1024 * 1024;

/** First bytes of compressed files, and the command that decompresses one beside the original. */
const COMPRESSIONS = [
  { name: "gzip", magic: "1f8b", command: "gzip -dk" },
  { name: "zstd", magic: "28b52ffd", command: "zstd -dk" },
  { name: "xz", magic: "fd377a585a00", command: "xz -dk" },
  { name: "bzip2", magic: "425a68", command: "bzip2 -dk" },
  { name: "lz4", magic: "04224d18", command: "lz4 -dk" },
] as const;

export class SnapshotFile {
  readonly path: string;
  /** The length of the database, without the hash. */
  readonly bytes: number;
  readonly #handle: FileHandle;
  readonly #opened: BigIntStats;
  readonly #hasHash: boolean;
  readonly #option: string;

  private constructor(path: string, handle: FileHandle, opened: BigIntStats, option: string) {
    this.path = path;
    this.#option = option;
    this.#handle = handle;
    this.#opened = opened;
    const size = Number(opened.size);
    this.#hasHash = size % SECTOR_BYTES === HASH_BYTES;
    this.bytes = this.#hasHash ? size - HASH_BYTES : size;
  }

  /** Opens a file. @throws KmsError CONFIG_INVALID if it cannot be read or is compressed */
  static async open(path: string, option = "--snapshot"): Promise<SnapshotFile> {
    let handle: FileHandle;
    try {
      handle = await openRegular(path);
    } catch (error) {
      throw unreadable(option, path, error, error instanceof KmsError ? "not a regular file" : undefined);
    }
    try {
      const file = new SnapshotFile(path, handle, await handle.stat({ bigint: true }), option);
      file.#requireUncompressed();
      return file;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /**
   * Reads the whole file and returns its SHA-256, hash included, in hexadecimal.
   * @throws KmsError CONFIG_INVALID if the hash at its end is missing or wrong, unless the options skip this check
   */
  async verify({ skipHashCheck, onHashed }: SnapshotOptions): Promise<string> {
    if (!this.#hasHash && !skipHashCheck) {
      throw this.#unusable(
        "does not end with the hash that 'etcdctl snapshot save' appends: it is truncated, or a copy of member/snap/db, which needs --skip-hash-check",
      );
    }
    const hash = createHash("sha256");
    let hashed = 0;
    for await (const chunk of this.#chunks(0, this.bytes)) {
      hash.update(chunk);
      onHashed?.((hashed += chunk.length), this.bytes);
    }
    if (!this.#hasHash) return hash.digest("hex");
    const stored = this.read(this.bytes, HASH_BYTES);
    if (!skipHashCheck && !hash.copy().digest().equals(stored)) {
      await this.requireUnchanged();
      throw this.#unusable(
        "is damaged: its content does not match the SHA-256 at its end; use another snapshot",
      );
    }
    return hash.update(stored).digest("hex");
  }

  /** Returns a new buffer with bytes of the file. @throws KmsError CONFIG_INVALID if the file ends before that */
  read(offset: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafeSlow(length);
    this.readInto(bytes, offset);
    return bytes;
  }

  /** Fills a buffer with bytes of the file. @throws KmsError CONFIG_INVALID if the file ends before that */
  readInto(bytes: Buffer, offset: number): void {
    for (let filled = 0; filled < bytes.length;) {
      const count = this.#attempt(() =>
        readSync(this.#handle.fd, bytes, filled, bytes.length - filled, offset + filled),
      );
      if (count === 0) throw this.damaged(`it ends at byte ${offset + filled}`);
      filled += count;
    }
  }

  /** When the file was written last, in ms since the epoch. */
  get writtenAt(): number {
    return Number(this.#opened.mtimeMs);
  }

  /** Throws CONFIG_INVALID if the file was written to, or replaced in place, since it was opened. */
  async requireUnchanged(): Promise<void> {
    const now = await this.#handle.stat({ bigint: true });
    const { size, mtimeNs, ctimeNs } = this.#opened;
    if (now.size === size && now.mtimeNs === mtimeNs && now.ctimeNs === ctimeNs) return;
    throw this.#unusable(
      "changed while it was read; use 'etcdctl snapshot save', or copy the file while etcd is stopped",
    );
  }

  /** Returns the error for content that is not a sound database. @param what completes "is damaged: ..." */
  damaged(what: string): KmsError {
    return this.#unusable(`is damaged: ${what}; use another snapshot`);
  }

  /** Returns the error for a file that is sound but not of the expected kind. */
  notASnapshot(what: string): KmsError {
    return this.#unusable(`is not a snapshot of etcd: ${what}; save one with 'etcdctl snapshot save'`);
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  async *#chunks(start: number, end: number): AsyncGenerator<Buffer, void> {
    if (end <= start) return;
    const options = { start, end: end - 1, highWaterMark: CHUNK_BYTES, autoClose: false };
    let length = 0;
    try {
      for await (const chunk of this.#handle.createReadStream(options) as AsyncIterable<Buffer>) {
        length += chunk.length;
        yield chunk;
      }
    } catch (error) {
      throw this.#unreadable(error);
    }
    if (length !== end - start) throw this.damaged(`it ends at byte ${start + length}`);
  }

  #requireUncompressed(): void {
    const start = this.read(0, Math.min(8, this.bytes)).toString("hex");
    const found = COMPRESSIONS.find(({ magic }) => start.startsWith(magic));
    if (found === undefined) return;
    throw this.#unusable(
      `is compressed with ${found.name}; decompress it first: ${found.command} ${this.path}`,
    );
  }

  #attempt<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw this.#unreadable(error);
    }
  }

  #unreadable(error: unknown): KmsError {
    const { code } = error as NodeJS.ErrnoException;
    return new KmsError(
      "CONFIG_INVALID",
      `${this.#option}: ${this.path} cannot be read (${code ?? "unknown error"}); copy it to a sound disk`,
      error,
    );
  }

  #unusable(what: string): KmsError {
    return new KmsError("CONFIG_INVALID", `${this.#option}: ${this.path} ${what}`);
  }
}

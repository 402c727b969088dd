// Appends lines to the audit log, in turn with other processes: continues the chain where it ends and rotates at
// a size. A batch is written as a whole or not at all, and is on stable storage before the head is moved.
import type { KeyObject } from "node:crypto";
import { constants, mkdir, open, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { KmsError } from "../errors.js";
import { findEnd, type ChainEnd } from "./audit-end.js";
import { rotateAway } from "./audit-files.js";
import { giveToFolderOwner, readHead, readOrMakeAuditKey, writeHead } from "./audit-key.js";
import { claimedSeq, LINE_START, sealLine, type ChainLink, type TimedEvent } from "./audit-line.js";
import { withLock, type HeldLock } from "./audit-lock.js";

export interface AuditSettings {
  readonly file: string;
  /** Its head lies beside it. */
  readonly keyFile: string;
  readonly maxBytes: number;
  /** Rotated files that are kept, at least one. */
  readonly keep: number;
}

const PATIENCE_MS = 5_000;

export class AuditFile {
  readonly #settings: AuditSettings;
  #key: KeyObject | undefined;
  /** Where this process left the chain: good for as long as nobody else has written. */
  #left: { readonly inode: number; readonly end: ChainEnd } | undefined;

  constructor(settings: AuditSettings) {
    this.#settings = settings;
  }

  /**
   * Appends the events in their order. One call at a time.
   * @throws KmsError, NodeJS.ErrnoException; nothing was appended then
   */
  async append(events: readonly TimedEvent[]): Promise<void> {
    const { file, keyFile } = this.#settings;
    const key = (this.#key ??= await readOrMakeAuditKey(keyFile));
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    await withLock(`${file}.lock`, PATIENCE_MS, async (lock) => {
      const last = await this.#appendLocked(events, key, lock);
      // A head that stays behind costs no line: it only knows less of where the log should end.
      await writeHead(keyFile, last).catch(() => undefined);
    });
  }

  async #appendLocked(events: readonly TimedEvent[], key: KeyObject, lock: HeldLock): Promise<ChainLink> {
    let handle = await openToAppend(this.#settings.file);
    try {
      let end = await this.#findEnd(handle, key);
      if (end.size >= this.#settings.maxBytes) {
        await this.#rotate(handle, end);
        handle = await openToAppend(this.#settings.file);
        const { findings } = end;
        end = await findEnd(handle, this.#settings.file, await this.#head(), key);
        end = { ...end, findings: [...end.findings, ...findings] };
      }
      const now = Date.now();
      const { text, last } = sealAll(
        [...end.findings.map((event) => ({ time: now, event })), ...events],
        end.last,
        key,
      );
      if (!(await lock.isHeld()))
        throw new KmsError("OVERLOADED", "the audit log's lock was lost; trying anew");
      const size = await appendWhole(handle, text, end.size);
      this.#left = { inode: (await handle.stat()).ino, end: { last, findings: [], size } };
      return last;
    } finally {
      await handle.close();
    }
  }

  async #findEnd(handle: FileHandle, key: KeyObject): Promise<ChainEnd> {
    const { ino, size } = await handle.stat();
    const left = this.#left;
    if (size > 0 && left?.inode === ino && left.end.size === size) return left.end;
    return findEnd(handle, this.#settings.file, await this.#head(), key);
  }

  /** The file may lag behind what this process knows. */
  async #head(): Promise<ChainLink | undefined> {
    const [head, left] = [await readHead(this.#settings.keyFile), this.#left?.end.last];
    return left !== undefined && left.seq > (head?.seq ?? 0) ? left : head;
  }

  async #rotate(handle: FileHandle, end: ChainEnd): Promise<void> {
    const { file, keep } = this.#settings;
    await handle.truncate(end.size);
    const start = Buffer.alloc(LINE_START);
    await handle.read(start, 0, start.length, 0);
    await handle.close();
    await rotateAway(file, claimedSeq(start) ?? end.last.seq, keep);
  }
}

function sealAll(
  events: readonly TimedEvent[],
  before: ChainLink,
  key: KeyObject,
): { text: Buffer; last: ChainLink } {
  let last = before;
  const lines = events.map((event) => {
    const line = sealLine(event, last, key);
    last = line;
    return `${line.text}\n`;
  });
  return { text: Buffer.from(lines.join("")), last };
}

async function openToAppend(path: string): Promise<FileHandle> {
  const flags = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW;
  const handle = await open(path, flags, 0o600);
  if ((await handle.stat()).size === 0) await giveToFolderOwner(handle, path);
  return handle;
}

/** Returns the file's new length; after a failure it has its old one, without what was cut off. */
async function appendWhole(handle: FileHandle, text: Buffer, size: number): Promise<number> {
  await handle.truncate(size);
  try {
    await handle.appendFile(text);
    await handle.datasync();
    return size + text.length;
  } catch (error) {
    await handle.truncate(size);
    throw error;
  }
}

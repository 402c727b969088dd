// Appends lines to the audit log, which several processes may write in turn. Continues the chain at its end and rotates
// the file at a size. A batch is written completely or not at all, and is on stable storage before the head is written.
import type { KeyObject } from "node:crypto";
import { stat, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { KmsError } from "../errors.js";
import { makePrivateFolderLater } from "../files/private-folder.js";
import { findChainTail, splitLines, type ChainTail } from "./chain-tail.js";
import { moveAway, removeFiles, rotatedFiles, type RotatedFile } from "./rotated-files.js";
import { readHead, readOrCreateAuditKey, writeHead, type AuditHead } from "./key.js";
import { appendWhole, openToAppend } from "./log-file.js";
import {
  MAX_LINE_BYTES,
  verifyLine,
  makeLine,
  type AuditEvent,
  type ChainLink,
  type TimedEvent,
} from "./line.js";
import { withLock, type HeldLock } from "../files/turn-lock.js";

/** The files of an audit log and their limits. */
export interface AuditSettings {
  readonly file: string;
  /** The head is a file beside it. */
  readonly keyFile: string;
  readonly maxBytes: number;
  /** Number of rotated files that are kept, at least one. */
  readonly keep: number;
}

/** Appends lines to an audit log and rotates its files. */
export class AuditWriter {
  readonly #settings: AuditSettings;
  readonly #warn: (text: string) => void;
  #key: KeyObject | undefined;
  /** The chain's end after this process's last append; valid if no other process has written since. */
  #left: { readonly inode: number; readonly end: ChainTail; readonly oldest: number | undefined } | undefined;

  /** @param warn receives a warning if the log continues under a new key */
  constructor(settings: AuditSettings, warn: (text: string) => void = () => undefined) {
    this.#settings = settings;
    this.#warn = warn;
  }

  /**
   * Appends the events in their order. Calls must not overlap.
   * @throws KmsError, NodeJS.ErrnoException if nothing was appended
   */
  async append(events: readonly TimedEvent[]): Promise<void> {
    const { file, keyFile } = this.#settings;
    const key = (this.#key ??= await this.#openKey());
    await makePrivateFolderLater(dirname(file));
    await withLock(`${file}.lock`, async (lock) => {
      const { head, excess } = await this.#appendLocked(events, key, lock);
      try {
        await writeHead(keyFile, head);
        // After the head is written: until then, the oldest line that the previous head names must exist.
        await removeFiles(excess);
      } catch {
        // An outdated head loses no line; it only detects fewer removals.
      }
    });
  }

  async #openKey(): Promise<KeyObject> {
    const { file, keyFile } = this.#settings;
    const { key, isNew } = await readOrCreateAuditKey(keyFile);
    if (isNew && (await hasLines(file))) {
      this.#warn(
        `${keyFile} was missing and was created: the lines that ${file} already holds verify only under the previous key; find out who removed it, and move these files away`,
      );
    }
    return key;
  }

  async #appendLocked(events: readonly TimedEvent[], key: KeyObject, lock: HeldLock): Promise<Appended> {
    const { file, maxBytes } = this.#settings;
    const head = await this.#head();
    let handle = await openToAppend(file);
    try {
      let end = await this.#findChainTail(handle, head, key);
      if (end.size >= maxBytes) {
        await this.#rotate(handle, end, key);
        handle = await openToAppend(file);
        const { findings } = end;
        end = await findChainTail(handle, file, head, key);
        end = { ...end, findings: [...end.findings, ...findings] };
      }
      const { oldest, excess } = await this.#retention(handle, head, end, key);
      const now = Date.now();
      const findings = end.findings.map((event) => ({ time: now, event: withOldest(event, oldest) }));
      const { text, last } = makeLines([...findings, ...events], end.last, key);
      if (!(await lock.isHeld())) {
        throw new KmsError("OVERLOADED", "the audit log's lock was lost; trying again");
      }
      await handle.truncate(end.size);
      await appendWhole(handle, text, end.size);
      const size = end.size + text.length;
      this.#left = { inode: (await handle.stat()).ino, end: { last, findings: [], size }, oldest };
      return { head: { ...last, ...(oldest !== undefined && { oldest }) }, excess };
    } finally {
      await handle.close();
    }
  }

  async #findChainTail(handle: FileHandle, head: AuditHead | undefined, key: KeyObject): Promise<ChainTail> {
    const { ino, size } = await handle.stat();
    const left = this.#left;
    if (size > 0 && left?.inode === ino && left.end.size === size) return left.end;
    return findChainTail(handle, this.#settings.file, head, key);
  }

  /** Returns the head, or this process's own record of it if the file is older. */
  async #head(): Promise<AuditHead | undefined> {
    const [head, left] = [await readHead(this.#settings.keyFile), this.#left];
    if (left === undefined || left.end.last.seq <= (head?.seq ?? 0)) return head;
    const oldest = head?.oldest ?? left.oldest;
    return { ...left.end.last, ...(oldest !== undefined && { oldest }) };
  }

  async #rotate(handle: FileHandle, end: ChainTail, key: KeyObject): Promise<void> {
    await handle.truncate(end.size);
    const first = (await firstSeq(handle, key)) ?? end.last.seq;
    await handle.close();
    await moveAway(this.#settings.file, first);
  }

  /** Returns the oldest retained line and, if a new file begins, the files to remove. */
  async #retention(
    handle: FileHandle,
    head: AuditHead | undefined,
    end: ChainTail,
    key: KeyObject,
  ): Promise<{ oldest: number | undefined; excess: readonly RotatedFile[] }> {
    const { file, keep } = this.#settings;
    const begins = end.findings.some(({ event }) => event === "rotated");
    if (!begins && head?.oldest !== undefined) return { oldest: head.oldest, excess: [] };
    // A file with a number that no line has reached yet is not part of this log and does not count.
    const rotated = (await rotatedFiles(file)).filter(({ first }) => first <= end.last.seq);
    const excess = begins ? rotated.slice(0, Math.max(0, rotated.length - keep)) : [];
    const kept = rotated[excess.length]?.first;
    if (excess.length > 0) return { oldest: kept, excess };
    const begun = end.size === 0 ? end.last.seq + 1 : await firstSeq(handle, key);
    return { oldest: head?.oldest ?? kept ?? begun, excess };
  }
}

interface Appended {
  readonly head: AuditHead;
  /** Rotated files to remove. */
  readonly excess: readonly RotatedFile[];
}

function withOldest(event: AuditEvent, oldest: number | undefined): AuditEvent {
  return event.event === "rotated" && oldest !== undefined ? { ...event, oldest } : event;
}

/**
 * Returns the number of a file's first line, counted back from the first line that verifies, since a line's own number
 * may be forged; undefined if none of the first 64 KiB verifies.
 */
async function firstSeq(handle: FileHandle, key: KeyObject): Promise<number | undefined> {
  const bytes = Buffer.alloc(MAX_LINE_BYTES);
  const { bytesRead } = await handle.read(bytes, 0, bytes.length, 0);
  for (const [at, line] of splitLines(bytes.subarray(0, bytesRead)).entries()) {
    const verified = verifyLine(line, key);
    if (verified !== undefined) return verified.seq - at;
  }
  return undefined;
}

function makeLines(
  events: readonly TimedEvent[],
  before: ChainLink,
  key: KeyObject,
): { text: Buffer; last: ChainLink } {
  let last = before;
  const lines = events.map((event) => {
    const line = makeLine(event, last, key);
    last = line;
    return `${line.text}\n`;
  });
  return { text: Buffer.from(lines.join("")), last };
}

async function hasLines(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return (found !== undefined && found.size > 0) || (await rotatedFiles(path).catch(() => [])).length > 0;
}

// Finds the recent lines of one operation in an audit log, which may hold millions of others: only a line with the operation's
// name is parsed and its MAC verified. Does not verify the chain. Changes nothing and takes no lock.
import type { KeyObject } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { splitLines } from "./chain-tail.js";
import { readAuditKey } from "./key.js";
import { MAX_LINE_BYTES, verifyLine, type AuditLine } from "./line.js";
import { openAll } from "./open-files.js";

/** At most this much of the log is in memory. */
const CHUNK_BYTES = 1 << 20;
const NEWLINE = 0x0a;

/** Which lines are read. */
export interface RecentLines {
  readonly operation: string;
  /** Files that were written last before this are left out, in ms since the epoch. */
  readonly since: number;
}

/**
 * Calls `onLine` with each line of the operation that verifies, in their order. Lines that are older than `since` may be among them.
 * @returns when the log begins, ISO 8601, if older lines were removed from it and may be as recent as `since`
 * @throws KmsError CONFIG_INVALID for an unusable key; NodeJS.ErrnoException if a file cannot be read
 */
export async function readRecentLines(
  { file, keyFile }: { readonly file: string; readonly keyFile: string },
  { operation, since }: RecentLines,
  onLine: (line: AuditLine) => void,
): Promise<{ readonly beginsAt: string | undefined }> {
  const key = await readAuditKey(keyFile);
  const opened = await openAll(file);
  try {
    const first = await firstLine(opened[0]?.handle, key);
    const time = String(first?.fields["time"]);
    const text = Buffer.from(`"operation":${JSON.stringify(operation)}`);
    for (const { handle } of opened) {
      if ((await handle.stat()).mtimeMs >= since) await scan(handle, text, key, onLine);
    }
    const isCut = first !== undefined && first.seq > 1 && Date.parse(time) > since;
    return { beginsAt: isCut ? time : undefined };
  } finally {
    for (const { handle } of opened) await handle.close();
  }
}

async function firstLine(handle: FileHandle | undefined, key: KeyObject): Promise<AuditLine | undefined> {
  const bytes = Buffer.alloc(MAX_LINE_BYTES);
  const { bytesRead } = (await handle?.read(bytes, 0, bytes.length, 0)) ?? { bytesRead: 0 };
  const end = bytes.subarray(0, bytesRead).indexOf(NEWLINE);
  return end < 0 ? undefined : verifyLine(bytes.subarray(0, end), key);
}

/** A last line without a line feed is incomplete, and left out. */
async function scan(
  handle: FileHandle,
  text: Buffer,
  key: KeyObject,
  onLine: (line: AuditLine) => void,
): Promise<void> {
  const buffer = Buffer.alloc(CHUNK_BYTES);
  let kept = 0;
  for (let position = 0; ;) {
    const { bytesRead } = await handle.read(buffer, kept, buffer.length - kept, position);
    if (bytesRead === 0) return;
    position += bytesRead;
    const filled = buffer.subarray(0, kept + bytesRead);
    const end = filled.lastIndexOf(NEWLINE) + 1;
    for (const line of linesWith(filled.subarray(0, end), text)) {
      const opened = verifyLine(line, key);
      if (opened !== undefined) onLine(opened);
    }
    // No line is as long as the buffer: text that is one is no line, and its end does not verify either.
    kept = end === 0 && filled.length === buffer.length ? 0 : filled.copy(buffer, 0, end);
  }
}

function linesWith(bytes: Buffer, text: Buffer): Buffer[] {
  return bytes.includes(text) ? splitLines(bytes).filter((line) => line.includes(text)) : [];
}

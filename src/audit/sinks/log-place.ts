// Finds where to read an audit log: after a position, whose files may have been rotated, shortened by a writer, removed or
// replaced since, and after the end of a rotated file.
import type { FileHandle } from "node:fs/promises";
import { openRegular } from "../../files/regular-file.js";
import { MAX_LINE_BYTES, NO_MAC } from "../line.js";
import { rotatedFiles, type RotatedFile } from "../rotated-files.js";
import { digestOf, type Position } from "./position.js";

const NEWLINE = 0x0a;
const SCAN_BYTES = 1 << 20;

/** An open file of the log, and where to read on. */
export interface OpenPlace extends Position {
  readonly path: string;
  readonly handle: FileHandle;
  /** Whether it is the file that writers append to. */
  readonly isWritten: boolean;
  /** Whether the position's line was not found, so that this is the beginning of the oldest file. */
  readonly isStart: boolean;
  /** Whether the line should have been in the oldest file or after it, but is not: the log was replaced or changed. */
  readonly isReplaced: boolean;
}

/** Returns where to read on; undefined if there is no log. The caller closes the file. @throws NodeJS.ErrnoException */
export async function findPlace(file: string, after: Position | undefined): Promise<OpenPlace | undefined> {
  const written = await openIfPresent(file);
  const found = after && written && (await continueIn(written, file, after, true));
  if (found !== undefined) return found;
  await written?.close();
  const rotated = await rotatedFiles(file).catch(() => []);
  if (after !== undefined) {
    const place = (await findByInode(rotated, after)) ?? (await findBySeq(rotated, file, after));
    if (place !== undefined) return place;
  }
  return openStart(rotated[0]?.path ?? file, file, after);
}

async function findByInode(rotated: readonly RotatedFile[], after: Position): Promise<OpenPlace | undefined> {
  for (const { path } of rotated.toReversed()) {
    const handle = await openIfPresent(path);
    if (handle === undefined) continue;
    const place = await continueIn(handle, path, after, false);
    if (place !== undefined) return place;
    await handle.close();
  }
  return undefined;
}

/** Returns the place in a file if it is the position's file and still holds the position's last bytes. */
async function continueIn(
  handle: FileHandle,
  path: string,
  after: Position,
  isWritten: boolean,
): Promise<OpenPlace | undefined> {
  const { ino, size } = await handle.stat();
  if (ino !== after.inode) return undefined;
  const found = { path, handle, isWritten, isStart: false, isReplaced: false };
  if (size < after.offset) {
    // A writer that could not complete a batch, on a full disk, removes it; its lines are written again. A later line is
    // that of another file, which has the inode of a removed one.
    const end = await lastLineEnd(handle, ino, size);
    return end.seq > 0 && end.seq < after.seq ? { ...found, ...end } : undefined;
  }
  const tail = Buffer.alloc(after.tailBytes);
  await handle.read(tail, 0, tail.length, after.offset - after.tailBytes);
  return digestOf(tail) === after.tailDigest ? { ...found, ...after } : undefined;
}

async function lastLineEnd(handle: FileHandle, inode: number, size: number): Promise<Position> {
  const bytes = Buffer.alloc(Math.min(size, MAX_LINE_BYTES));
  await handle.read(bytes, 0, bytes.length, size - bytes.length);
  const end = bytes.lastIndexOf(NEWLINE) + 1;
  const begin = end > 1 ? bytes.lastIndexOf(NEWLINE, end - 2) + 1 : 0;
  const tail = bytes.subarray(begin, end);
  const { seq, mac } = seqAndMac(tail.toString("latin1"));
  const offset = size - bytes.length + end;
  return { inode, offset, tailBytes: tail.length, tailDigest: digestOf(tail), seq, mac };
}

/** Returns number and MAC of a line, as its text gives them. */
function seqAndMac(line: string): { seq: number; mac: string } {
  const seq = /^\{"v":1,"seq":(\d{1,15}),/.exec(line)?.[1];
  const mac = /,"mac":"([0-9a-f]{64})"\}\n?$/.exec(line)?.[1];
  return { seq: Number(seq ?? 0), mac: mac ?? NO_MAC };
}

/** Searches the file that holds the line's number, if the file was copied or restored from a backup. */
async function findBySeq(
  rotated: readonly RotatedFile[],
  file: string,
  after: Position,
): Promise<OpenPlace | undefined> {
  const holder = rotated.findLast(({ first }) => first <= after.seq)?.path;
  for (const path of new Set([holder ?? file, file])) {
    const handle = await openIfPresent(path);
    if (handle === undefined) continue;
    const end = after.mac === NO_MAC ? undefined : await endOfLine(handle, `,"mac":"${after.mac}"}\n`);
    if (end !== undefined) {
      const { ino } = await handle.stat();
      const tail = Buffer.alloc(Math.min(end, after.mac.length));
      await handle.read(tail, 0, tail.length, end - tail.length);
      const place = { inode: ino, offset: end, tailBytes: tail.length, tailDigest: digestOf(tail) };
      const { seq, mac } = after;
      const isWritten = path === file;
      return { path, handle, ...place, seq, mac, isWritten, isStart: false, isReplaced: false };
    }
    await handle.close();
  }
  return undefined;
}

/** Returns the offset after the first occurrence of an ASCII text; undefined if there is none. */
async function endOfLine(handle: FileHandle, text: string): Promise<number | undefined> {
  const bytes = Buffer.alloc(SCAN_BYTES + text.length);
  for (let offset = 0; ; offset += SCAN_BYTES) {
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, offset);
    const at = bytes.subarray(0, bytesRead).indexOf(text, 0, "latin1");
    if (at >= 0) return offset + at + text.length;
    if (bytesRead < bytes.length) return undefined;
  }
}

async function openStart(
  path: string,
  file: string,
  after: Position | undefined,
): Promise<OpenPlace | undefined> {
  const handle = await openIfPresent(path);
  if (handle === undefined) return undefined;
  const { ino } = await handle.stat();
  const first = Buffer.alloc(64);
  const { bytesRead } = await handle.read(first, 0, first.length, 0);
  const { seq } = seqAndMac(first.toString("latin1", 0, bytesRead));
  const isReplaced = after !== undefined && seq <= after.seq;
  return {
    ...beginningOf(ino),
    path,
    handle,
    seq: isReplaced ? 0 : (after?.seq ?? 0),
    mac: NO_MAC,
    isWritten: path === file,
    isStart: true,
    isReplaced,
  };
}

/** Opens the file that follows a rotated file; undefined if it does not exist yet. The caller closes both. */
export async function nextFile(file: string, place: OpenPlace): Promise<OpenPlace | undefined> {
  const rotated = await rotatedFiles(file);
  const at = rotated.findIndex(({ path }) => path === place.path);
  const path = rotated[at + 1]?.path ?? file;
  const handle = await openIfPresent(path);
  if (handle === undefined) return undefined;
  const { ino } = await handle.stat();
  if (ino !== place.inode) return { ...place, ...beginningOf(ino), path, handle, isWritten: path === file };
  // Rotated meanwhile, so that both names led to the same file.
  await handle.close();
  return undefined;
}

function beginningOf(inode: number): Pick<Position, "inode" | "offset" | "tailBytes" | "tailDigest"> {
  return { inode, offset: 0, tailBytes: 0, tailDigest: digestOf(Buffer.alloc(0)) };
}

async function openIfPresent(path: string): Promise<FileHandle | undefined> {
  try {
    return await openRegular(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

// Where the chain of an audit log ends, whoever wrote it: after the last whole line of the file, or, in a new
// file, of the one that was rotated away. Says what has to be told before the chain goes on.
import type { KeyObject } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { basename } from "node:path";
import { KmsError } from "../errors.js";
import { openRegular } from "../regular-file.js";
import { rotatedFiles } from "./audit-files.js";
import {
  claimedSeq,
  MAX_LINE_BYTES,
  NO_MAC,
  openLine,
  type AuditEvent,
  type ChainLink,
} from "./audit-line.js";

export interface ChainEnd {
  readonly last: ChainLink;
  readonly findings: readonly AuditEvent[];
  /** Length of the file without a line that was cut off. */
  readonly size: number;
}

const BEGINNING: ChainLink = { seq: 0, mac: NO_MAC };
const NEWLINE = 0x0a;
const UNVERIFIED = "the line before does not verify";

interface Tail {
  readonly line: Buffer | undefined;
  readonly size: number;
  readonly cutOff: number;
}

/**
 * @param head the last line that is known to have been written
 * @throws KmsError CONFIG_INVALID for a file that is no audit log; NodeJS.ErrnoException
 */
export async function findEnd(
  handle: FileHandle,
  file: string,
  head: ChainLink | undefined,
  key: KeyObject,
): Promise<ChainEnd> {
  const { line, size, cutOff } = await readTail(handle, file);
  const recovered: AuditEvent[] = cutOff === 0 ? [] : [{ event: "recovered", bytes: cutOff }];
  const end = line === undefined ? await endBefore(file, head, key) : endAt(line, head, key);
  return { last: end.last, findings: [...end.findings, ...recovered], size };
}

type End = Omit<ChainEnd, "size">;

function endAt(line: Buffer, head: ChainLink = BEGINNING, key: KeyObject): End {
  const last = openLine(line, key);
  if (last === undefined) return restartAfter(Math.max(claimedSeq(line) ?? 0, head.seq), UNVERIFIED);
  // The head is moved after its line is on stable storage: a log that ends before it was cut.
  if (last.seq < head.seq)
    return restartAfter(head.seq, `${String(head.seq - last.seq)} lines before it were removed`);
  return { last, findings: [] };
}

function restartAfter(seq: number, reason: string): End {
  return { last: { seq, mac: NO_MAC }, findings: [{ event: "restarted", reason }] };
}

/** Of a new file: the newest rotated one knows more than the head, which may lag behind. */
async function endBefore(file: string, head: ChainLink | undefined, key: KeyObject): Promise<End> {
  const rotated = await rotatedFiles(file);
  const [oldest, newest] = [rotated[0], rotated.at(-1)];
  if (oldest === undefined || newest === undefined) return { last: head ?? BEGINNING, findings: [] };
  const handle = await openRegular(newest.path);
  try {
    const { line } = await readTail(handle, newest.path);
    const end = line === undefined ? { last: head ?? BEGINNING, findings: [] } : endAt(line, head, key);
    const told: AuditEvent = { event: "rotated", from: basename(newest.path), oldest: oldest.first };
    return { last: end.last, findings: [told, ...end.findings] };
  } finally {
    await handle.close();
  }
}

async function readTail(handle: FileHandle, path: string): Promise<Tail> {
  const { size } = await handle.stat();
  const start = Math.max(0, size - MAX_LINE_BYTES);
  const bytes = Buffer.alloc(size - start);
  await handle.read(bytes, 0, bytes.length, start);
  const lineEnd = bytes.lastIndexOf(NEWLINE);
  if (lineEnd < 0) {
    if (start > 0) throw new KmsError("CONFIG_INVALID", `${path} is no audit log; choose another file`);
    return { line: undefined, size: 0, cutOff: size };
  }
  const lineStart = lineEnd === 0 ? 0 : bytes.lastIndexOf(NEWLINE, lineEnd - 1) + 1;
  return {
    line: bytes.subarray(lineStart, lineEnd),
    size: start + lineEnd + 1,
    cutOff: bytes.length - lineEnd - 1,
  };
}

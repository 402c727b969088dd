// Finds where the chain of an audit log ends: after the last complete line of the file or, if that is new, of the
// newest rotated file. Returns the findings that must be recorded before the chain continues.
import type { KeyObject } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { basename } from "node:path";
import { KmsError } from "../errors.js";
import { openRegular } from "../files/regular-file.js";
import { rotatedFiles } from "./rotated-files.js";
import type { AuditHead } from "./key.js";
import { MAX_LINE_BYTES, NO_MAC, verifyLine, type AuditEvent, type ChainLink } from "./line.js";

/** The end of a chain, and what must be recorded before it continues. */
export interface ChainTail {
  readonly last: ChainLink;
  readonly findings: readonly AuditEvent[];
  /** Length of the file without an incomplete last line, in bytes. */
  readonly size: number;
}

const BEGINNING: ChainLink = { seq: 0, mac: NO_MAC };
const NEWLINE = 0x0a;
const UNVERIFIED = "the line before does not verify";

interface Tail {
  /** Complete lines up to the last one; the beginning of the first may be missing. */
  readonly lines: readonly Buffer[];
  readonly size: number;
  readonly cutOff: number;
}

/**
 * Returns the end of the chain.
 * @param head the last line that is known to have been written
 * @throws KmsError CONFIG_INVALID for a file that is not an audit log; NodeJS.ErrnoException
 */
export async function findChainTail(
  handle: FileHandle,
  file: string,
  head: AuditHead | undefined,
  key: KeyObject,
): Promise<ChainTail> {
  const { lines, size, cutOff } = await readTail(handle, file);
  const recovered: AuditEvent[] = cutOff === 0 ? [] : [{ event: "recovered", bytes: cutOff }];
  const end = lines.length === 0 ? await endBefore(file, head, key) : endAt(lines, head, key);
  return { last: end.last, findings: [...end.findings, ...recovered], size };
}

type End = Omit<ChainTail, "size">;

function endAt(lines: readonly Buffer[], head: ChainLink = BEGINNING, key: KeyObject): End {
  const last = verifyLine(lines.at(-1) ?? Buffer.alloc(0), key);
  if (last === undefined) return restartAfter(Math.max(countedSeq(lines, key), head.seq), UNVERIFIED);
  // The head is written after its line is on stable storage, so a log that ends before the head was cut.
  if (last.seq < head.seq) {
    return restartAfter(head.seq, `${head.seq - last.seq} lines before it were removed`);
  }
  return { last, findings: [] };
}

/** Returns the number of the last line, counted from the last line that verifies: a line's own number may be forged. */
function countedSeq(lines: readonly Buffer[], key: KeyObject): number {
  for (let at = lines.length - 1; at >= 0; at--) {
    const verified = verifyLine(lines[at] ?? Buffer.alloc(0), key);
    if (verified !== undefined) return verified.seq + lines.length - 1 - at;
  }
  return 0;
}

function restartAfter(seq: number, reason: string): End {
  return { last: { seq, mac: NO_MAC }, findings: [{ event: "restarted", reason }] };
}

/** Returns the end before a new file: the newest rotated file is more current than the head, which may be outdated. */
async function endBefore(file: string, head: AuditHead | undefined, key: KeyObject): Promise<End> {
  const rotated = await rotatedFiles(file);
  const [oldest, newest] = [rotated[0], rotated.at(-1)];
  if (oldest === undefined || newest === undefined) return { last: head ?? BEGINNING, findings: [] };
  const handle = await openRegular(newest.path);
  try {
    const { lines } = await readTail(handle, newest.path);
    const end = lines.length === 0 ? { last: head ?? BEGINNING, findings: [] } : endAt(lines, head, key);
    // The log must not confirm that it begins after the oldest files if an attacker has removed them.
    const kept = head?.oldest ?? oldest.first;
    const findings: AuditEvent[] = [{ event: "rotated", from: basename(newest.path), oldest: kept }];
    if (oldest.first > kept) findings.push({ event: "missing", first: kept, last: oldest.first - 1 });
    return { last: end.last, findings: [...findings, ...end.findings] };
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
    if (start > 0) throw new KmsError("CONFIG_INVALID", `${path} is not an audit log; choose another file`);
    return { lines: [], size: 0, cutOff: size };
  }
  return {
    lines: splitLines(bytes.subarray(0, lineEnd)),
    size: start + lineEnd + 1,
    cutOff: bytes.length - lineEnd - 1,
  };
}

/** Splits at line feeds; the last element is what follows the last one. */
export function splitLines(bytes: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  let start = 0;
  for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
    lines.push(bytes.subarray(start, end));
    start = end + 1;
  }
  return [...lines, bytes.subarray(start)];
}

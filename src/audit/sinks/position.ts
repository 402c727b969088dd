// How far a sink has confirmed an audit log. The position survives restarts of the plugin and the rotation of the log: it
// names a file by its inode, and the last line by its number and MAC, so that the line is found wherever it is now.
import { createHash } from "node:crypto";
import { readStateBytes, writeStateBytes } from "../../files/state-bytes.js";

const VERSION = 1;
const MAX_BYTES = 4_096;

/** The end of a line in an audit log. */
export interface Position {
  readonly inode: number;
  /** Offset of the byte after the line, its line feed included. */
  readonly offset: number;
  /** Length and SHA-256 (hex) of the bytes before `offset`: proof that the file is the same. */
  readonly tailBytes: number;
  readonly tailDigest: string;
  /** Number and MAC of the last line that could be read. */
  readonly seq: number;
  readonly mac: string;
}

/** Returns the SHA-256 of bytes, in hex. */
export function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Returns the stored position; undefined if there is none, or it is damaged: the log is then sent from its beginning. */
export function readPosition(path: string): Position | undefined {
  try {
    const stored = JSON.parse(readStateBytes(path, MAX_BYTES).toString("utf8")) as Record<string, unknown>;
    const { version, inode, offset, tailBytes, tailDigest, seq, mac } = stored;
    if (version !== VERSION || typeof tailDigest !== "string" || typeof mac !== "string") return undefined;
    if (!isCount(inode) || !isCount(offset) || !isCount(tailBytes) || !isCount(seq)) return undefined;
    return { inode, offset, tailBytes, tailDigest, seq, mac };
  } catch {
    return undefined;
  }
}

/** Replaces the stored position. @throws NodeJS.ErrnoException */
export async function writePosition(path: string, position: Position): Promise<void> {
  await writeStateBytes(path, Buffer.from(`${JSON.stringify({ version: VERSION, ...position })}\n`));
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

// A lock for short changes of one file, such as the audit log: a lock file created with O_EXCL. The plugin and any number of
// commands take turns, even across containers, where process ids are ambiguous. A holder that dies leaves its file behind; a
// file that is older than any turn can last counts as abandoned.
import { lstat, open, rename, unlink } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { KmsError } from "../errors.js";

const ABANDONED_MS = 10_000;
/** How long to wait for the lock: until a dead holder's file counts as abandoned, plus the turns of others after that. */
const PATIENCE_MS = ABANDONED_MS + 5_000;
const POLL_MS = 15;

/** A lock that this process holds, unless another has considered it abandoned. */
export interface HeldLock {
  /** Returns false if another process has taken the lock, considering it abandoned. */
  isHeld(): Promise<boolean>;
}

/**
 * Runs `work` while holding the lock, and returns its result.
 * @throws KmsError OVERLOADED if others hold the lock for 15 s; what `work` throws
 */
export async function withLock<T>(path: string, work: (lock: HeldLock) => Promise<T>): Promise<T> {
  const inode = await take(path);
  const isHeld = async (): Promise<boolean> => (await inodeOf(path))?.ino === inode;
  try {
    return await work({ isHeld });
  } finally {
    // The work is done whether or not its lock can be removed; a lock that stays counts as abandoned later.
    await release(path, isHeld).catch(() => undefined);
  }
}

async function release(path: string, isHeld: HeldLock["isHeld"]): Promise<void> {
  if (await isHeld()) await unlink(path);
}

async function take(path: string): Promise<number> {
  const giveUpAt = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      const file = await open(path, "wx", 0o600);
      const { ino } = await file.stat();
      await file.close();
      return ino;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    await removeIfAbandoned(path);
    if (performance.now() >= giveUpAt) {
      throw new KmsError(
        "OVERLOADED",
        `other processes have held ${path} for ${PATIENCE_MS / 1000} s; repeat this when they have finished`,
      );
    }
    await sleep(POLL_MS);
  }
}

/**
 * Moves the file before it checks it again: two processes that find it abandoned must not remove each other's new one.
 */
async function removeIfAbandoned(path: string): Promise<void> {
  const found = await inodeOf(path);
  // A file from the future was left before the clock was set back; waiting for it could take hours.
  if (found === undefined || Math.abs(Date.now() - found.mtimeMs) < ABANDONED_MS) return;
  const aside = `${path}.${randomBytes(4).toString("hex")}`;
  try {
    await rename(path, aside);
    if ((await inodeOf(aside))?.ino === found.ino) await unlink(aside);
    else await rename(aside, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

async function inodeOf(path: string): Promise<{ ino: number; mtimeMs: number } | undefined> {
  return lstat(path).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  });
}

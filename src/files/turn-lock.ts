// Whose turn it is to change a file, such as the audit log: a lock file made with O_EXCL, held for moments. The plugin
// and any number of commands take turns, in containers too, where a process id says nothing. A holder that died
// leaves its file behind, which counts as left after a while: no turn takes that long.
import { lstat, open, rename, unlink } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { KmsError } from "../errors.js";

const LEFT_BEHIND_MS = 10_000;
const POLL_MS = 15;

export interface HeldLock {
  /** Whether nobody has taken it for left behind in the meantime. */
  isHeld(): Promise<boolean>;
}

/** @throws KmsError OVERLOADED when others hold it for longer than `patienceMs`; whatever `work` throws */
export async function withLock<T>(
  path: string,
  patienceMs: number,
  work: (lock: HeldLock) => Promise<T>,
): Promise<T> {
  const inode = await take(path, patienceMs);
  const isHeld = async (): Promise<boolean> => (await inodeOf(path))?.ino === inode;
  try {
    return await work({ isHeld });
  } finally {
    // The work is done whatever becomes of its lock; one that stays is taken for left behind.
    await release(path, isHeld).catch(() => undefined);
  }
}

async function release(path: string, isHeld: HeldLock["isHeld"]): Promise<void> {
  if (await isHeld()) await unlink(path);
}

async function take(path: string, patienceMs: number): Promise<number> {
  const giveUpAt = performance.now() + patienceMs;
  for (;;) {
    try {
      const file = await open(path, "wx", 0o600);
      const { ino } = await file.stat();
      await file.close();
      return ino;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    await removeIfLeftBehind(path);
    if (performance.now() >= giveUpAt) {
      throw new KmsError("OVERLOADED", `${path} is held by another process; remove it if there is none`);
    }
    await sleep(POLL_MS);
  }
}

/** Two that find the same file left behind must not remove each other's new one: it is moved first, then looked at. */
async function removeIfLeftBehind(path: string): Promise<void> {
  const found = await inodeOf(path);
  // One from the future was left before the clock was set back, and would hold up the log until then.
  if (found === undefined || Math.abs(Date.now() - found.mtimeMs) < LEFT_BEHIND_MS) return;
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

// The folder for all private files of one drill: only its owner can read it, and the drill removes it at the end. A lock
// shows whether its drill still runs, so that the next drill removes what a killed one has left.
import { chmodSync, lstatSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KmsError } from "../errors.js";
import { fileError } from "../files/file-error.js";
import { takeProcessLock, type HeldLock } from "../files/process-lock.js";

const NAME = "kms-pkcs11-drill-";
/** Begins the name of a folder whose lock is not taken yet, which no other drill removes. */
const DRAFT = "kms-pkcs11-new-drill-";
/** A draft that is older belongs to a drill that was killed. */
const DRAFT_MS = 60_000;
const LOCK = { name: "drill", doing: "running a drill", patienceMs: 0 };
/** sockaddr_un holds 108 bytes (unix(7)), and the longest socket is in a folder below. */
const MAX_PATH_BYTES = 70;

export class PrivateFolder {
  readonly path: string;
  readonly #lock: HeldLock;

  private constructor(path: string, lock: HeldLock) {
    this.path = path;
    this.#lock = lock;
  }

  /** Makes a folder in the folder for temporary files ($TMPDIR). @throws KmsError CONFIG_INVALID */
  static async create(): Promise<PrivateFolder> {
    const within = tmpdir();
    if (Buffer.byteLength(within) > MAX_PATH_BYTES - NAME.length) {
      throw new KmsError(
        "CONFIG_INVALID",
        `$TMPDIR: ${within} is too long for the sockets in it; give a shorter path`,
      );
    }
    let draft: string | undefined;
    try {
      draft = mkdtempSync(join(within, DRAFT));
      const lock = await takeProcessLock({ folder: draft, ...LOCK });
      const path = draft.replace(DRAFT, NAME);
      renameSync(draft, path);
      return new PrivateFolder(path, lock);
    } catch (error) {
      if (draft !== undefined) rmSync(draft, { recursive: true, force: true });
      throw fileError(error) ?? error;
    }
  }

  /** Lets other users enter the folder, but not list it: parts of it belong to the plugin's user. */
  openForPlugin(): void {
    chmodSync(this.path, 0o711);
  }

  /** Removes the folder. */
  remove(): void {
    rmSync(this.path, { recursive: true, force: true, maxRetries: 5 });
    this.#lock.release();
  }
}

/** Writes a file that only its owner can read. @throws NodeJS.ErrnoException that names it, also if the disk is full */
export function writePrivate(path: string, content: string): void {
  try {
    writeFileSync(path, content, { mode: 0o600 });
  } catch (error) {
    throw Object.assign(error as Error, { path });
  }
}

/**
 * Removes the folders of this user's drills that were killed.
 * @returns lines that name what was removed, and what could not be
 */
export async function removeLeftovers(): Promise<string[]> {
  const lines: string[] = [];
  for (const path of leftFolders()) {
    try {
      if (!(await removeUnlessInUse(path))) continue;
      lines.push(`removed ${path}, which a drill that was killed had left`);
    } catch (error) {
      const { message } = fileError(error) ?? KmsError.from(error);
      lines.push(`${path}, which a drill that was killed had left, cannot be removed: ${message}`);
    }
  }
  return lines;
}

/** Returns the folders of drills that belong to this user; a link or another user's folder is left alone. */
function leftFolders(): string[] {
  const within = tmpdir();
  const names = readdirSync(within).filter((name) => name.startsWith(NAME) || name.startsWith(DRAFT));
  return names
    .map((name) => join(within, name))
    .filter((path) => {
      const stat = lstatSync(path, { throwIfNoEntry: false });
      if (stat?.isDirectory() !== true || stat.uid !== process.geteuid?.()) return false;
      return !path.startsWith(join(within, DRAFT)) || Date.now() - stat.mtimeMs > DRAFT_MS;
    });
}

async function removeUnlessInUse(path: string): Promise<boolean> {
  let lock: HeldLock;
  try {
    lock = await takeProcessLock({ folder: path, ...LOCK });
  } catch (error) {
    if (error instanceof KmsError && error.code === "HSM_UNAVAILABLE") return false;
    throw error;
  }
  try {
    rmSync(path, { recursive: true, force: true, maxRetries: 5 });
    return true;
  } finally {
    lock.release();
  }
}

// Small JSON files of the state directory, read and written while requests are served: nothing found in their place
// may hold the process up, and a write goes to no file but ours.
import {
  closeSync,
  fchownSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { heirOf, READ_AT_ONCE } from "../regular-file.js";

const MAX_BYTES = 1 << 20;

/** @throws NodeJS.ErrnoException ENOENT where there is none; SyntaxError, or an Error for what is no state file */
export function readStateFile(path: string): unknown {
  const file = openSync(path, READ_AT_ONCE);
  try {
    const stat = fstatSync(file);
    if (!stat.isFile() || stat.size > MAX_BYTES) throw new Error(`${path} is no state file`);
    return JSON.parse(readFileSync(file, "utf8"));
  } finally {
    closeSync(file);
  }
}

/** Replaces the file whole; makes its folder, mode 0700, if need be. @throws NodeJS.ErrnoException */
export function writeStateFile(path: string, value: unknown): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.${String(process.pid)}.new`;
  rmSync(draft, { force: true });
  // "wx" follows no link.
  const file = openSync(draft, "wx", 0o600);
  try {
    giveToFolderOwner(file, path);
    writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
  } finally {
    closeSync(file);
  }
  renameSync(draft, path);
}

/** What a command of root's has learnt, a refused PIN above all, has to be readable for the plugin, another user. */
function giveToFolderOwner(file: number, path: string): void {
  const heir = heirOf(statSync(dirname(path)));
  if (heir !== undefined) fchownSync(file, heir.uid, heir.gid);
}

// Whether another user can reach a file, for root, whom no mode keeps out.
import { realpathSync, statSync } from "node:fs";
import { dirname } from "node:path";

const ENTER = 0o1;

export interface Visitor {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
}

/** Returns the first folder on the way to the file that the user may not enter. */
export function folderClosedTo(path: string, { uid, gid, groups }: Visitor): string | undefined {
  const folders: string[] = [];
  for (let at = realpathSync(path); at !== dirname(at);) folders.unshift((at = dirname(at)));
  return folders.find((folder) => {
    const stats = statSync(folder);
    const shift = stats.uid === uid ? 6 : stats.gid === gid || groups.includes(stats.gid) ? 3 : 0;
    return uid !== 0 && (stats.mode & (ENTER << shift)) === 0;
  });
}

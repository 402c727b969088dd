// Whether another user can reach a file, for root, whom no mode keeps out.
import { realpathSync, statSync } from "node:fs";
import { dirname } from "node:path";

const ENTER = 0o1;

/** Returns the first folder on the way to the file that a user with this primary group may not enter. */
export function folderClosedTo(
  path: string,
  { uid, gid }: { readonly uid: number; readonly gid: number },
): string | undefined {
  const folders: string[] = [];
  for (let at = realpathSync(path); at !== dirname(at);) folders.unshift((at = dirname(at)));
  return folders.find((folder) => {
    const stats = statSync(folder);
    const shift = stats.uid === uid ? 6 : stats.gid === gid ? 3 : 0;
    return uid !== 0 && (stats.mode & (ENTER << shift)) === 0;
  });
}

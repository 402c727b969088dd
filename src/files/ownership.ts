// The one rule about who may own and write to the paths that the plugin trusts: the state directory, the audit key, the
// folders of its sockets, the configuration and the PKCS#11 module. `serve` enforces it and `check` reports it.
import { realpathSync, statSync, type Stats } from "node:fs";
import { dirname } from "node:path";

/** What a path must satisfy, and what a user who controls it could do. */
export interface Trust {
  /** What such a user could do, as in "who could replace the socket". */
  readonly danger: string;
  /**
   * Root may run a command for a plugin whose user it does not know: then any owner is accepted, as long as
   * nobody else may write.
   */
  readonly forAnotherUser?: boolean;
}

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

/** Returns what is wrong with the owner or the mode of `path`, and what to do; undefined when nothing is. */
export function ownershipProblem(path: string, stats: Stats, trust: Trust): string | undefined {
  const uid = process.geteuid?.() ?? 0;
  const mayBeAnybodys = trust.forAnotherUser === true && uid === 0;
  if (stats.uid !== 0 && stats.uid !== uid && !mayBeAnybodys) {
    return `${path} belongs to user ${stats.uid}, who could ${trust.danger}; chown it to root or to the plugin's user`;
  }
  if ((stats.mode & WRITABLE_BY_OTHERS) !== 0) {
    return `${path} can be written by others, who could ${trust.danger}; chmod go-w it`;
  }
  return undefined;
}

/**
 * Returns what is wrong with a folder: its owner and mode, and folders above it in which others may write and so
 * rename it. @throws NodeJS.ErrnoException when it cannot be inspected
 */
export function folderProblem(path: string, trust: Trust): string | undefined {
  const real = realpathSync(path);
  const stats = statSync(real);
  if (!stats.isDirectory()) return `${path} is not a folder; move it first`;
  return ownershipProblem(real, stats, trust) ?? problemAbove(real, trust);
}

/** Returns what is wrong with a file and its folder. @throws NodeJS.ErrnoException when it cannot be inspected */
export function fileProblem(path: string, trust: Trust): string | undefined {
  const real = realpathSync(path);
  return ownershipProblem(real, statSync(real), trust) ?? folderProblem(dirname(real), trust);
}

function problemAbove(folder: string, trust: Trust): string | undefined {
  for (let above = dirname(folder), below = folder; above !== below; below = above, above = dirname(above)) {
    const { mode } = statSync(above);
    // In a sticky folder, such as /tmp, only the owner of an entry may rename it.
    if ((mode & WRITABLE_BY_OTHERS) !== 0 && (mode & STICKY) === 0) {
      return `${above} can be written by others, who could ${trust.danger}; chmod go-w it, or use another folder than ${folder}`;
    }
  }
  return undefined;
}

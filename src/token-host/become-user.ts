// Gives up root's rights in a token host that a command of root started, so that the library reads and makes what the
// plugin's user can read. The process keeps the files that it has open, and afterwards cannot be traced by that user.
import type { HostUser } from "../hsm/wire-user.js";

/**
 * Makes this process act as `user`, with that user's groups, until it ends. To be called before a thread starts.
 * @throws Error if the kernel refuses, which it does for everybody but root
 */
export function becomeUser({ uid, gid, groups }: HostUser): void {
  process.setgroups?.([...groups]);
  process.setgid?.(gid);
  process.setuid?.(uid);
}

// Gives up root's rights in a token host that a command of root started, so that the library reads what the plugin's
// user can read, and makes files that this user can read. Files that are already open stay open, and that user cannot
// trace the process.
import type { HostUser } from "../hsm/wire-user.js";

/**
 * Makes this process act as `user`, with that user's groups, until it ends. Must be called before a thread starts.
 * @throws Error if the kernel refuses, which it does for everybody but root
 */
export function becomeUser({ uid, gid, groups }: HostUser): void {
  process.setgroups?.([...groups]);
  process.setgid?.(gid);
  process.setuid?.(uid);
}

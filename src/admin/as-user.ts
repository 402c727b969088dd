// Runs a part of root's command with the rights of another user. Only the effective user changes, so that root can return:
// this shows what that user may do with files and sockets, and does not confine code.
import type { HostUser } from "../hsm/wire-user.js";

/** Runs `work` as the user, or as the caller if there is none. Nothing else may run meanwhile. */
export async function asUser<T>(user: HostUser | undefined, work: () => Promise<T>): Promise<T> {
  if (user === undefined) return work();
  const before = { gid: process.getegid?.() ?? 0, groups: process.getgroups?.() ?? [] };
  process.setgroups?.([...user.groups]);
  process.setegid?.(user.gid);
  process.seteuid?.(user.uid);
  try {
    return await work();
  } finally {
    process.seteuid?.(0);
    process.setegid?.(before.gid);
    process.setgroups?.(before.groups);
  }
}

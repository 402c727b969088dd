// Shows what `etcd recover --delete` is about to delete, and asks the operator to type the number of objects.
import type { Backup } from "../../admin/recover/backup.js";
import type { Finding } from "../../admin/recover/find-unreadable.js";
import { KmsError } from "../../errors.js";
import { askLine } from "../ask-line.js";
import type { Terminal } from "../output.js";
import { findingsTable } from "./recover-report.js";

/** Returns the question. It throws CANCELLED if nothing is typed, and TOKEN_REFUSED for anything but the number. */
export function confirmDeletion(
  terminal: Terminal,
): (objects: readonly Finding[], backup: Backup) => Promise<void> {
  return async (objects, { file, writtenAt }) => {
    terminal.err(findingsTable(objects));
    terminal.err(`backup: ${file}, written at ${writtenAt}`);
    const typed = await askLine(
      "Type the number of these objects to delete them for good, without their finalizers:\n",
    );
    if (typed?.trim() === String(objects.length)) return;
    if (typed === undefined) throw new KmsError("CANCELLED", "no number was typed; nothing was deleted");
    throw new KmsError("TOKEN_REFUSED", "another number was typed; nothing was deleted");
  };
}

// Appends messages as lines to a file that an agent reads. The file is opened for every batch, so that it may be renamed at any
// time; at a certain size it is renamed to FILE.1, so that the disk holds at most two of them.
import { rename, type FileHandle } from "node:fs/promises";
import { appendWhole, openToAppend } from "../log-file.js";
import { MAX_LINE_BYTES } from "../line.js";
import type { Transport } from "./transport.js";

const LINE_FEED = Buffer.from("\n");
const NEWLINE = 0x0a;

/** Opens the file. @throws KmsError CONFIG_INVALID if it is not a regular file of this user; NodeJS.ErrnoException */
export async function openFile(path: string, maxBytes: number): Promise<Transport> {
  await (await openToAppend(path)).close();
  return {
    confirmAfterMs: 0,
    failure: undefined,
    async send(messages) {
      const handle = await openToAppend(path);
      try {
        const size = await endOfLines(handle);
        await appendWhole(handle, Buffer.concat(messages.flatMap((message) => [message, LINE_FEED])), size);
        if (size > maxBytes) await rename(path, `${path}.1`);
      } finally {
        await handle.close();
      }
    },
    confirm: () => Promise.resolve(true),
    close: () => undefined,
  };
}

/** Removes a last line that a crash left incomplete, and returns the remaining length; its event is written again. */
async function endOfLines(handle: FileHandle): Promise<number> {
  const { size } = await handle.stat();
  const bytes = Buffer.alloc(Math.min(size, 2 * MAX_LINE_BYTES));
  await handle.read(bytes, 0, bytes.length, size - bytes.length);
  const end = size - bytes.length + bytes.lastIndexOf(NEWLINE) + 1;
  if (end < size) await handle.truncate(end);
  return end;
}

// What a node remembers of approvals in its state directory. A memory that is damaged is not the same as none.
import type { z } from "zod";
import { KmsError } from "../errors.js";
import { readStateFile } from "../files/state-file.js";

/**
 * Returns what a file remembers; undefined if there is no file.
 * @param loss what the file says and what to do, for the message
 * @throws KmsError STATE_UNUSABLE if it cannot be read
 */
export function recall<T>(path: string, schema: z.ZodType<T>, loss: string): T | undefined {
  try {
    return schema.parse(readStateFile(path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new KmsError("STATE_UNUSABLE", `${path} cannot be read, and says ${loss}`, error);
  }
}

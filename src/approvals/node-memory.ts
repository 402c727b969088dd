// What a node remembers about approvals in its state directory. A damaged memory is an error; a missing one is not.
import type { z } from "zod";
import { KmsError } from "../errors.js";
import { readStateFile } from "../files/state-file.js";

/**
 * Returns what a file remembers; undefined if there is no file.
 * @param loss what the file records and what to do, for the message
 * @throws KmsError STATE_UNUSABLE if it cannot be read
 */
export function recall<T>(path: string, schema: z.ZodType<T>, loss: string): T | undefined {
  try {
    return schema.parse(readStateFile(path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new KmsError("STATE_UNUSABLE", `${path} cannot be read; it records ${loss}`, error);
  }
}

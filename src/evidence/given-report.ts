// Reads a report that an operator gives to `evidence collect`. Others may have written the file, so it is bounded, and its form
// is checked.
import type { z } from "zod";
import { KmsError } from "../errors.js";
import { fileError } from "../files/file-error.js";
import { readRegular } from "../files/regular-file.js";

/** A report has a few lines for each resource, KEK and reason, whatever the number of objects. */
const MAX_BYTES = 16 * 1024 * 1024;

/**
 * Returns the report in a file.
 * @param refusal the end of the message for another file: what it is not, and how to create one
 * @throws KmsError CONFIG_INVALID
 */
export function readGivenReport<T>(path: string, schema: z.ZodType<T>, refusal: string): T {
  let text: string;
  try {
    text = readRegular(path, MAX_BYTES).toString("utf8");
  } catch (error) {
    throw fileError(error) ?? error;
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    throw new KmsError("CONFIG_INVALID", `${path}: ${refusal}`, error);
  }
}

// Reads what `etcd verify -o json` wrote. Others may have written the file, so it is bounded and its form is checked.
import { z } from "zod";
import { KmsError } from "../errors.js";
import { fileError } from "../files/file-error.js";
import { readRegular } from "../files/regular-file.js";
import type { EvidenceVerification } from "./facts.js";

const MAX_BYTES = 16 * 1024 * 1024;

const count = z.int().min(0);
const schema = z.object({
  objects: count,
  resources: z.array(
    z.object({
      resource: z.string(),
      objects: count,
      opened: count,
      plaintext: count,
      otherProvider: count,
      failed: count,
    }),
  ),
  failures: z.array(z.object({ reason: z.string(), objects: count, keys: z.array(z.string()) })),
});

/** Returns the verification in a file. @throws KmsError CONFIG_INVALID */
export function readVerification(path: string): EvidenceVerification {
  let text: string;
  try {
    text = readRegular(path, MAX_BYTES).toString("utf8");
  } catch (error) {
    throw fileError(error) ?? error;
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    const how = "create it with 'kms-pkcs11 etcd verify -o json'";
    throw new KmsError("CONFIG_INVALID", `${path}: is not a verification; ${how}`, error);
  }
}

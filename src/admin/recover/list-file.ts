// Reads a list of unreadable objects: the JSON output of `etcd recover`, which people review or approve before the listed
// objects are deleted. The file is not trusted, since others may have written it.
import { createHash } from "node:crypto";
import { z } from "zod";
import { KmsError } from "../../errors.js";
import { recoveryLabel } from "../../approvals/recovery-label.js";
import { codeOf } from "../../files/file-error.js";
import { readRegular } from "../../files/regular-file.js";

export interface ObjectList {
  readonly objects: readonly { readonly key: string; readonly modRevision: number }[];
  /** What an approval of exactly this list contains. */
  readonly approved: { readonly label: string; readonly reports: readonly string[] };
}

/** As large as a document that `approvals propose` reads. */
const MAX_BYTES = 1 << 20;

const listed = z.object({
  findings: z.array(z.object({ key: z.string().min(1), modRevision: z.int().min(1) })).min(1),
});

/** Reads the file of --only. @throws KmsError CONFIG_INVALID */
export function readObjectList(path: string): ObjectList {
  let bytes: Buffer;
  try {
    bytes = readRegular(path, MAX_BYTES);
  } catch (error) {
    if (error instanceof KmsError) throw invalid(`${path} is not a regular file of at most 1 MiB`, error);
    throw invalid(`${path} cannot be read (${codeOf(error)})`, error);
  }
  const parsed = listed.safeParse(parseJson(bytes));
  if (!parsed.success) {
    throw invalid(`${path} lists no object; write it with 'kms-pkcs11 etcd recover -o json'`, parsed.error);
  }
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  const objects = parsed.data.findings;
  return { objects, approved: { label: recoveryLabel(objects.length), reports: [digest] } };
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    return undefined;
  }
}

function invalid(message: string, cause: unknown): KmsError {
  return new KmsError("CONFIG_INVALID", `--only: ${message}`, cause);
}

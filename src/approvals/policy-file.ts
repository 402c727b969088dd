// The policy of a configuration: its file, the digest that pins its first version, and the latest version that the state
// directory has seen. Nobody returns to an earlier version, or to another version under the same number.
import { join } from "node:path";
import { z } from "zod";
import { KmsError } from "../errors.js";
import { askToRepair, readStateFile, writeStateFile } from "../files/state-file.js";
import { codeOf } from "../files/file-error.js";
import { readRegular } from "../files/regular-file.js";
import { digest, MAX_DOCUMENT_BYTES } from "./document.js";
import { parseChain, verifyChain, type PolicyInForce } from "./policy-chain.js";
import { refused } from "./refused.js";

const SEEN = "policy-seen.json";

const seenSchema = z.strictObject({ format: z.literal(1), version: z.int().min(1), digest });

/** Where a policy is, and what is known of it. */
export interface PolicySource {
  /** Path of the policy. */
  readonly policy: string;
  /** Digest of the first version. */
  readonly root: string;
  /** Undefined if this program keeps no memory of versions. */
  readonly stateDir?: string | undefined;
}

/**
 * Reads and verifies the policy, and remembers its latest version.
 * @throws KmsError NOT_APPROVED if it is invalid or older than one seen; CONFIG_INVALID if it cannot be read;
 *   STATE_UNUSABLE if the memory of versions cannot be used
 */
export function loadPolicy({ policy: path, root, stateDir }: PolicySource): PolicyInForce {
  const inForce = verifyChain(parseChain(readPolicy(path)), root);
  if (stateDir !== undefined) remember(join(stateDir, SEEN), inForce);
  return inForce;
}

/** A plugin reads it while it serves: opening must not block. */
function readPolicy(path: string): string {
  try {
    return readRegular(path, MAX_DOCUMENT_BYTES).toString("utf8");
  } catch (error) {
    if (error instanceof KmsError) throw error;
    throw new KmsError("CONFIG_INVALID", `${path}: cannot be read (${codeOf(error)})`, error);
  }
}

function remember(path: string, { policy: { version }, digests }: PolicyInForce): void {
  const seen = readSeen(path);
  if (seen !== undefined && version < seen.version) {
    throw refused(
      `the policy is at version ${version}, but version ${seen.version} was in force here; restore it`,
    );
  }
  if (seen !== undefined && digests[seen.version - 1] !== seen.digest) {
    throw refused(`version ${seen.version} of the policy is not the one that was in force here; restore it`);
  }
  if (seen?.version === version) return;
  try {
    writeStateFile(path, { format: 1, version, digest: digests.at(-1) });
  } catch (error) {
    throw new KmsError("STATE_UNUSABLE", askToRepair(path, error), error);
  }
}

function readSeen(path: string): z.infer<typeof seenSchema> | undefined {
  try {
    return seenSchema.parse(readStateFile(path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    const text = `${path} cannot be read, and says which version of the policy was in force; restore it`;
    throw new KmsError("STATE_UNUSABLE", text, error);
  }
}

// The policy of a configuration: its file, the digest that pins its first version, and the latest version that the state
// directory has seen. Nobody returns to an earlier version, or to another version under the same number.
import { join } from "node:path";
import { z } from "zod";
import { readRegular } from "../files/regular-file.js";
import { saveState } from "../files/state-file.js";
import { digest, readDocument } from "./document.js";
import { recall } from "./node-memory.js";
import { parseChain, verifyChain, type PolicyInForce } from "./policy-chain.js";
import type { Policy } from "./policy.js";
import { refused, refusedOf } from "./refused.js";

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
  // A plugin reads it while it serves: opening must not block.
  const text = readDocument(path, readRegular);
  const inForce = refusedOf(path, () => verifyChain(parseChain(text), root));
  if (stateDir !== undefined) remember(join(stateDir, SEEN), inForce);
  return inForce;
}

/** Reads and verifies a policy that an operator names, whatever its first version. @throws KmsError as `loadPolicy` */
export function readPolicy(path: string): Policy {
  const text = readDocument(path);
  return refusedOf(path, () => verifyChain(parseChain(text), undefined)).policy;
}

function remember(path: string, { policy: { version }, digests }: PolicyInForce): void {
  const seen = recall(path, seenSchema, "which version of the policy was in force; restore it");
  if (seen !== undefined && version < seen.version) {
    throw refused(
      `the policy is at version ${version}, but version ${seen.version} was in force here; restore it`,
    );
  }
  if (seen !== undefined && digests[seen.version - 1] !== seen.digest) {
    throw refused(`version ${seen.version} of the policy is not the one that was in force here; restore it`);
  }
  if (seen?.version === version) return;
  saveState(path, { format: 1, version, digest: digests.at(-1) });
}

// Remembers in the state directory which approvals have been used, until they expire.
import { join } from "node:path";
import { z } from "zod";
import { KmsError } from "../errors.js";
import { saveState } from "../files/state-file.js";
import { instant } from "./document.js";
import { recall } from "./node-memory.js";
import type { Proposal } from "./proposal.js";
import { refused } from "./refused.js";

const FILE = "approvals-used.json";

const usedSchema = z.strictObject({
  format: z.literal(1),
  used: z.array(z.strictObject({ nonce: z.string().max(64), expires: instant })).max(10_000),
});

/**
 * Records that an approval is used now.
 * @throws KmsError NOT_APPROVED if it has been used before; CONFIG_INVALID without a state directory; STATE_UNUSABLE
 */
export function useOnce(stateDir: string | undefined, { nonce, expires }: Proposal): void {
  if (stateDir === undefined) {
    throw new KmsError("CONFIG_INVALID", "stateDir: is missing; used approvals are recorded there");
  }
  const path = join(stateDir, FILE);
  const before = recall(path, usedSchema, "which approvals were used")?.used ?? [];
  const used = before.filter((one) => Date.parse(one.expires) > Date.now());
  if (used.some((one) => one.nonce === nonce)) throw refused("the approval has been used already");
  saveState(path, { format: 1, used: [...used, { nonce, expires }] });
}

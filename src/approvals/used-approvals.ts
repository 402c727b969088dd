// Remembers in the state directory which approvals have been used, until they expire.
import { join } from "node:path";
import { z } from "zod";
import { KmsError } from "../errors.js";
import { askToRepair, readStateFile, writeStateFile } from "../files/state-file.js";
import { instant } from "./document.js";
import type { Proposal } from "./proposal.js";
import { refused } from "./refused.js";

const FILE = "approvals-used.json";

const usedSchema = z.strictObject({
  format: z.literal(1),
  used: z.array(z.strictObject({ nonce: z.string().max(64), expires: instant })).max(10_000),
});

type Used = z.infer<typeof usedSchema>["used"];

/**
 * Records that an approval is used now.
 * @throws KmsError NOT_APPROVED if it has been used before; CONFIG_INVALID without a state directory; STATE_UNUSABLE
 */
export function useOnce(stateDir: string | undefined, { nonce, expires }: Proposal): void {
  if (stateDir === undefined) {
    throw new KmsError("CONFIG_INVALID", "stateDir: is missing; used approvals are recorded there");
  }
  const path = join(stateDir, FILE);
  const used = read(path).filter((one) => Date.parse(one.expires) > Date.now());
  if (used.some((one) => one.nonce === nonce)) throw refused("the approval has been used already");
  try {
    writeStateFile(path, { format: 1, used: [...used, { nonce, expires }] });
  } catch (error) {
    throw new KmsError("STATE_UNUSABLE", askToRepair(path, error), error);
  }
}

function read(path: string): Used {
  try {
    return usedSchema.parse(readStateFile(path)).used;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new KmsError("STATE_UNUSABLE", `${path} cannot be read, and says which approvals were used`, error);
  }
}

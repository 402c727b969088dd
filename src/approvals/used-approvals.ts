// Remembers in the state directory which approvals have been used, until they expire.
import { join } from "node:path";
import { z } from "zod";
import { KmsError } from "../errors.js";
import { makePrivateFolder } from "../files/private-folder.js";
import { takeProcessLock, type HeldLock } from "../files/process-lock.js";
import { askToRepair, saveState } from "../files/state-file.js";
import { instant } from "./document.js";
import { recall } from "./node-memory.js";
import type { Proposal } from "./proposal.js";
import { refused } from "./refused.js";

const FILE = "approvals-used.json";
/** The file is written in milliseconds; a disk may be slow. */
const PATIENCE_MS = 10_000;

const usedSchema = z.strictObject({
  format: z.literal(1),
  used: z.array(z.strictObject({ nonce: z.string().max(64), expires: instant })).max(10_000),
});

/**
 * Records that an approval is used now. If several processes use it at the same moment, only one succeeds.
 * @throws KmsError NOT_APPROVED if it has been used before; CONFIG_INVALID without a state directory; STATE_UNUSABLE
 */
export async function useOnce(stateDir: string | undefined, proposal: Proposal): Promise<void> {
  if (stateDir === undefined) {
    throw new KmsError("CONFIG_INVALID", "stateDir: is missing; used approvals are recorded there");
  }
  const lock = await lockRecord(stateDir);
  try {
    record(join(stateDir, FILE), proposal);
  } finally {
    lock.release();
  }
}

async function lockRecord(folder: string): Promise<HeldLock> {
  try {
    makePrivateFolder(folder);
    return await takeProcessLock({ folder, name: FILE, doing: "using an approval", patienceMs: PATIENCE_MS });
  } catch (error) {
    if (error instanceof KmsError) throw error;
    throw new KmsError("STATE_UNUSABLE", askToRepair(join(folder, FILE), error), error);
  }
}

function record(path: string, { nonce, expires }: Proposal): void {
  const before = recall(path, usedSchema, "which approvals were used")?.used ?? [];
  const used = before.filter((one) => Date.parse(one.expires) > Date.now());
  if (used.some((one) => one.nonce === nonce)) {
    throw refused("the approval has been used already; propose it again");
  }
  saveState(path, { format: 1, used: [...used, { nonce, expires }] });
}

// Keeps a machine running after its cases if scripts/e2e-node --keep asked for it, so that a person can enter it.

import { writeFileSync, existsSync } from "node:fs";
import { until } from "../../e2e/harness/wait.js";
import type { Machine } from "./machine.js";

export const A_DAY_MS = 86_400_000;

/**
 * Prints how to enter the machine and waits until the marker file has been removed, at most for a day. Returns at once
 * without --keep.
 */
export async function lookAround(machine: Machine, marker: string): Promise<void> {
  if (process.env["E2E_KEEP"] === undefined) return;
  writeFileSync(marker, "");
  process.stdout.write(`\n${machine.entrance}\nTo end it: rm ${marker}\n`);
  await until("the end of the visit", () => !existsSync(marker), { timeoutMs: A_DAY_MS, intervalMs: 1000 });
}

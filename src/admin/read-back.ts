// Reads a token again after a command has changed it. A library that is loaded while another process writes the token may
// find no token for a moment, report an error or crash.
import { setTimeout } from "node:timers/promises";
import { KmsError } from "../errors.js";
import type { Hsm, KekRecord } from "../hsm/port.js";

/** Time after which no further attempt is made, in ms. */
const LIMIT_MS = 5_000;
const PAUSE_MS = 250;

/** Returns what a reloaded library shows. Repeats a reading that fails because the HSM is unavailable. @throws KmsError */
export async function readBack(hsm: Pick<Hsm, "listKeksReloaded">): Promise<readonly KekRecord[]> {
  const until = performance.now() + LIMIT_MS;
  for (;;) {
    try {
      return await hsm.listKeksReloaded();
    } catch (error) {
      if (KmsError.from(error).code !== "HSM_UNAVAILABLE" || performance.now() >= until) throw error;
      await setTimeout(PAUSE_MS);
    }
  }
}

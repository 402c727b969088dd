// Has a token host find KEKs by their CKA_IDs, which takes a few calls for each of them, however many keys of other
// applications the token holds.
import type { KekRecord } from "../port.js";
import type { ReadRequest, ReadSlice } from "../wire-calls.js";
import type { HostProcess } from "./host-process.js";

/** Returns whether the host finds all of these KEKs. @throws KmsError */
export async function findAll(
  host: HostProcess,
  known: readonly KekRecord[],
  ask: (request: ReadRequest) => Promise<ReadSlice>,
): Promise<boolean> {
  for (const { keyId } of known) {
    const slice = await ask({ resume: false, only: keyId });
    if (!slice.done || slice.keks.length === 0) return false;
    host.lanes.noteOperation(slice.operationMs);
  }
  return true;
}

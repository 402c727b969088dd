// Key records as a token would report them, for tests of decisions based on records.

import type { KekRecord } from "../../src/hsm/port.js";

/** Returns the record of a usable KEK, except for the members in `more`. */
export function kekRecord(label: string, keyId: string, more: Partial<KekRecord> = {}): KekRecord {
  return { keyId, label, aliases: [], ckaId: "", kind: "aes", unprotected: [], remarks: [], ...more };
}

// Key records as a token would report them, for tests of what is decided from them.

import type { KekRecord } from "../../src/hsm/port.js";

export function kekRecord(label: string, keyId: string, more: Partial<KekRecord> = {}): KekRecord {
  return { keyId, label, aliases: [], ckaId: "", kind: "aes", unprotected: [], remarks: [], ...more };
}

// A generation of the KEK as the token host holds it: the record that goes over the wire, the object
// handles that do not, and what has been learnt of the token's AES-GCM with it.
import type { Handle } from "pkcs11js";
import type { KekRecord } from "../hsm/wire.js";
import type { GcmDialect } from "./mechanisms/gcm-dialect.js";

export interface Kek {
  readonly record: KekRecord;
  readonly aes?: Handle;
  readonly hmac?: Handle;
  /** Found by trial on first use; null where AES-GCM does not work with this key. */
  gcm?: GcmDialect | null;
}

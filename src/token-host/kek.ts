// A generation of the KEK as the token host holds it: the record that goes over the wire, the object
// handles that do not, and what has been discovered of the token's mechanisms with it.
import type { Handle } from "pkcs11js";
import type { KekRecord } from "../hsm/port.js";
import { TokenFault } from "./ckr.js";
import type { GcmDialect } from "./mechanisms/gcm-dialect.js";
import type { KwpWay } from "./mechanisms/kwp-way.js";

/** Of v3.0, unknown to pkcs11js. */
export const CKK_SHA256_HMAC = 0x2b;

/** Found by trial on first use; holds for the key's value, whatever handle it has. */
export interface Discovered {
  /** Null where the token refuses AES-GCM with this key for good. */
  gcm?: GcmDialect | null;
  kwp?: KwpWay;
}

export interface Kek {
  readonly record: KekRecord;
  readonly aes?: Handle;
  readonly hmac?: Handle;
  readonly discovered: Discovered;
}

/** What an earlier reading's trials found; a refusal is looked at anew. */
export function discoveredBefore(earlier: Kek | undefined): Discovered {
  const { gcm, kwp } = earlier?.discovered ?? {};
  return { ...(gcm && { gcm }), ...(kwp && { kwp }) };
}

/** @throws TokenFault MECHANISM_UNSUPPORTED */
export function aesKeyOf(kek: Kek): Handle {
  if (kek.aes !== undefined) return kek.aes;
  throw new TokenFault("this KEK has no AES key", { fault: "setup", code: "MECHANISM_UNSUPPORTED" });
}

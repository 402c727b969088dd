// A generation of the KEK as the token host knows it: the record that is sent to the plugin, the object handles that are
// not, and what has been discovered about the token's mechanisms with this key.
import type { Handle } from "pkcs11js";
import type { KekRecord } from "../hsm/port.js";
import { TokenFault } from "./ckr.js";
import type { GcmIvMode } from "./mechanisms/gcm-iv-mode.js";
import type { KwpVariant } from "./mechanisms/kwp-variant.js";

/** PKCS#11 v3.0; pkcs11js does not define it. */
export const CKK_SHA256_HMAC = 0x2b;

/** Found on first use. It concerns the key's value, whatever its handle. */
export interface Discovered {
  /** Null if the token definitely refuses AES-GCM with this key. */
  gcm?: GcmIvMode | null;
  kwp?: KwpVariant;
}

export interface Kek {
  readonly record: KekRecord;
  readonly aes?: Handle;
  readonly hmac?: Handle;
  readonly discovered: Discovered;
}

/** Returns what was discovered before an earlier reading; a refusal is not kept, so that it is checked again. */
export function discoveredBefore(earlier: Kek | undefined): Discovered {
  const { gcm, kwp } = earlier?.discovered ?? {};
  return { ...(gcm && { gcm }), ...(kwp && { kwp }) };
}

/** Returns the AES key. @throws TokenFault MECHANISM_UNSUPPORTED if there is none */
export function aesKeyOf(kek: Kek): Handle {
  if (kek.aes !== undefined) return kek.aes;
  throw new TokenFault("this KEK has no AES key", { fault: "setup", code: "MECHANISM_UNSUPPORTED" });
}

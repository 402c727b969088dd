// How a token handles the IV of AES-GCM, and the parameters and data of a call in such a mode. gcm-iv-search.ts finds the
// mode that a token has.
import { randomBytes } from "node:crypto";
import type { MechanismName } from "../../hsm/mechanisms.js";
import { IV_BYTES, type GcmCall } from "./gcm-call.js";

/** The IV that the plugin sends for an encryption. */
export type IvSent = "random" | "zero" | "none";

/** How a token handles the IV of AES-GCM. */
export interface GcmIvMode {
  readonly mechanism: MechanismName;
  /** CKM_AES_GCM or a vendor's own number for it. */
  readonly ckm: number;
  readonly ivSent: IvSent;
  readonly ivBytes: number;
  /** Decryption expects the token's whole output, including the IV, instead of the IV in the parameters. */
  readonly ownFormat: boolean;
}

/** Returns the IV buffer for an encryption: random if the token uses the caller's IV, otherwise what it accepts. */
export function makeIv(sent: IvSent): Buffer {
  if (sent === "random") return randomBytes(IV_BYTES);
  return Buffer.alloc(sent === "zero" ? IV_BYTES : 0);
}

/** Returns the parameters and data with which this token decrypts. */
export function decryptCall(
  mode: GcmIvMode,
  iv: Uint8Array,
  sealed: Uint8Array,
  aad: Uint8Array,
): { call: GcmCall; data: Uint8Array } {
  if (!mode.ownFormat) return { call: { ckm: mode.ckm, iv: Buffer.from(iv), aad }, data: sealed };
  const parts = mode.mechanism === "aes-gcm-iv-prepended" ? [iv, sealed] : [sealed, iv];
  return { call: { ckm: mode.ckm, iv: makeIv(mode.ivSent), aad }, data: Buffer.concat(parts) };
}

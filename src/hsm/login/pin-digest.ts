// Recognises a PIN without storing it: in memory by a digest under a key of this process, on disk by a mark of so few
// bits that a reader learns almost nothing, however short the PIN is and however fast they guess. A slow hash would not
// be enough: all PINs of four digits could be tried in minutes.
import { createHmac, randomBytes } from "node:crypto";

const KEY = randomBytes(32);
/**
 * Number of bits in a mark: one in 1,024 other PINs has the same mark and is mistaken for a refused one until the
 * record is removed.
 */
const MARK_BITS = 10;

/** Returns the digest for this process's memory. */
export function digestPin(pin: Buffer): string {
  return createHmac("sha256", KEY).update(pin).digest("base64");
}

/** Returns the mark for the disk. It is always the same for one PIN of one token, so several records reveal no more. */
export function markPin(token: string, pin: Buffer): number {
  const digest = createHmac("sha256", `kms-pkcs11 refused PIN\0${token}`).update(pin).digest();
  return digest.readUInt16BE() >>> (16 - MARK_BITS);
}

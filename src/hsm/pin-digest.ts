// How a PIN is known again without being kept: in memory by a digest under a key of this process's, on the disk by a
// mark of so few bits that whoever reads it learns almost nothing, however short the PIN is and however fast they
// guess. A slow hash would not do: all PINs of four digits are tried in minutes.
import { createHmac, randomBytes } from "node:crypto";

const KEY = randomBytes(32);
/** One in 1024 other PINs has the same mark and is taken for a refused one; removing the record helps. */
const MARK_BITS = 10;

/** For this process's memory. */
export function digestPin(pin: Buffer): string {
  return createHmac("sha256", KEY).update(pin).digest("base64");
}

/** For the disk. The same for one PIN of one token wherever and whenever, so that several records tell no more. */
export function markPin(token: string, pin: Buffer): number {
  const digest = createHmac("sha256", `kms-pkcs11 refused PIN\0${token}`).update(pin).digest();
  return digest.readUInt16BE() >>> (16 - MARK_BITS);
}

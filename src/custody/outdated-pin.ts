// Whether a PIN that custodians have opened may still be tried. A renewal gives the token another PIN, and a plugin that
// still holds the earlier one would spend a PIN attempt on it. The files of the renewal show that without an attempt.
import { KmsError } from "../errors.js";
import { readNext, readSealedPin } from "./sealed-pin-file.js";
import type { SealedPin } from "./sealed-pin.js";

/** Returns why the PIN of a sealed PIN must not be tried now, in one line; undefined if its files say nothing against it. */
export function outdatedReason(path: string, opened: Pick<SealedPin, "set" | "epoch">): string | undefined {
  const present = readable(() => readSealedPin(path));
  if (present !== undefined && (present.set !== opened.set || present.epoch > opened.epoch)) {
    return `the PIN of set ${opened.set}, epoch ${opened.epoch} was renewed: ${path} has set ${present.set}, epoch ${present.epoch}`;
  }
  const next = readable(() => readNext(path));
  if (next === undefined || next.set !== opened.set || next.epoch <= opened.epoch) return undefined;
  return `the token may have another PIN: ${path} is being renewed to epoch ${next.epoch}; finish it with kms-pkcs11 custody renew`;
}

/** A file that cannot be read says nothing: the token decides. */
function readable(read: () => SealedPin | undefined): SealedPin | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof KmsError) return undefined;
    throw error;
  }
}

// The error of everything that is refused here: a signature, a key, a policy, an approval.
import { KmsError } from "../errors.js";

/** Returns the error NOT_APPROVED. @param text what is wrong, public */
export function refused(text: string, cause?: unknown): KmsError {
  return new KmsError("NOT_APPROVED", text, cause);
}

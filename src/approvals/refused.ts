// The error of everything that is refused here: a signature, a key, a policy, an approval.
import { KmsError } from "../errors.js";

/** Returns the error NOT_APPROVED. @param text what is wrong, public */
export function refused(text: string, cause?: unknown): KmsError {
  return new KmsError("NOT_APPROVED", text, cause);
}

/** Returns what `work` returns; what it refuses is reported with the file or person that it is about. */
export function refusedOf<T>(subject: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof KmsError) || error.code !== "NOT_APPROVED") throw error;
    throw refused(`${subject}: ${error.message}`, error);
  }
}

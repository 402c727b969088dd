// The message of a refused configuration.
import { KmsError, type ErrorCode } from "../../src/errors.js";

/** Returns the message of the KmsError that `use` throws; fails the test if it throws none or another one. */
export function messageOf(use: () => unknown, code: ErrorCode = "CONFIG_INVALID"): string {
  try {
    use();
  } catch (error) {
    if (error instanceof KmsError && error.code === code) return error.message;
    throw error;
  }
  throw new Error(`nothing was thrown; expected ${code}`);
}

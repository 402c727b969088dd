// The errors for a configuration that cannot be used.
import { KmsError } from "../errors.js";

/** Returns a CONFIG_INVALID error; its message has the form "<what is wrong>; <what to do>". */
export function invalid(message: string, cause?: unknown): KmsError {
  return new KmsError("CONFIG_INVALID", message, cause);
}

/**
 * Returns a CONFIG_INVALID error with one line per problem: at most `max` lines, then the number of further problems.
 */
export function invalidLines(lines: readonly string[], max: number): KmsError {
  const more = lines.length - max;
  return invalid(
    more > 0 ? [...lines.slice(0, max), `and ${more} more problems`].join("\n") : lines.join("\n"),
  );
}

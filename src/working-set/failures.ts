// Decides what follows from a failed background call: the ciphertext is given up, other calls under its KEK are skipped, or
// the HSM is away and all calls pause, for longer each time.
import { backoffMs } from "../backoff.js";
import type { ErrorCode, KmsError } from "../errors.js";
import { meansHsmAway } from "../hsm/away.js";

const PAUSES = { firstMs: 1_000, capMs: 60_000 };
/** Errors of the ciphertext itself, which every attempt would return. */
const FINAL: ReadonlySet<ErrorCode> = new Set(["INPUT_INVALID", "NOT_AUTHENTIC"]);

/** Returns whether trying the same ciphertext again would not help. */
export function isFinal(error: KmsError): boolean {
  return FINAL.has(error.code);
}

/** Follows a series of background calls and decides which of them are still made. */
export class Series {
  readonly #failingKeks = new Set<string>();
  #hasEnded = false;
  #failure: KmsError | undefined;

  /** The last failure that was not the fault of a ciphertext. */
  get failure(): KmsError | undefined {
    return this.#failure;
  }

  /** Whether no further call is made. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Returns whether a call under this KEK is still made. */
  mayCall(keyId: string): boolean {
    return !this.#hasEnded && !this.#failingKeks.has(keyId);
  }

  /** Notes a failed call. */
  failed(keyId: string, error: KmsError): void {
    if (isFinal(error)) return;
    this.#failure = error;
    if (meansHsmAway(error) || error.code === "OVERLOADED") this.#hasEnded = true;
    else this.#failingKeks.add(keyId);
  }
}

/** Decides when the next series may begin. */
export class Pauses {
  #failures = 0;
  #until = -Infinity;

  get isOver(): boolean {
    return performance.now() >= this.#until;
  }

  /** Notes the end of a series. */
  ended({ failure }: Series): void {
    this.#failures = failure === undefined ? 0 : this.#failures + 1;
    this.#until = performance.now() + backoffMs(this.#failures, PAUSES);
  }
}

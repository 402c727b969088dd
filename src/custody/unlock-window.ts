// Gathers the shares of one attempt to unlock a running plugin: one custodian at a time, within ten minutes of the first
// share. Each share is judged alone, so that a wrong one neither ends the attempt nor extends it. A nonce names the
// attempt, so that a share counts only in the attempt that its custodian saw.
import { randomBytes } from "node:crypto";
import { describeFault, Gathering, type ShareFault } from "./gathering.js";
import type { SealedPin } from "./sealed-pin.js";
import type { Share } from "./share.js";

export const WINDOW_MS = 10 * 60_000;
const NONCE_BYTES = 16;

/** The attempt, as a custodian sees it. */
export interface UnlockProgress {
  readonly nonce: string;
  readonly epoch: number;
  /** Number of shares so far. */
  readonly count: number;
  readonly threshold: number;
}

/** The outcome of one share. */
export type ShareOutcome =
  | { readonly is: "accepted"; readonly text: string }
  | { readonly is: ShareFault | "stale"; readonly text: string }
  /** Enough shares: the attempt has ended, and the caller opens or clears them. */
  | { readonly is: "complete"; readonly gathering: Gathering };

/** How the sealed PIN is read, and how long an attempt lasts. */
export interface UnlockWindowOptions {
  /** @throws KmsError if the sealed PIN cannot be used */
  readonly read: () => SealedPin;
  readonly windowMs?: number;
  /** Called when shares were zeroed because the window had ended. */
  readonly onExpired?: () => void;
}

/** Gathers shares for a running plugin. */
export class UnlockWindow {
  readonly #options: UnlockWindowOptions;
  #nonce = newNonce();
  #gathering: Gathering | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: UnlockWindowOptions) {
    this.#options = options;
  }

  /** Returns the attempt's state; begins one if there is none. @throws KmsError if the sealed PIN cannot be read */
  progress(): UnlockProgress {
    const { sealed, count } = this.#begun();
    return { nonce: this.#nonce, epoch: sealed.epoch, count, threshold: sealed.threshold };
  }

  /** Judges a share and owns its point. @throws KmsError if the sealed PIN cannot be read */
  add(nonce: string, share: Share): ShareOutcome {
    if (nonce !== this.#nonce) {
      share.point.fill(0);
      return { is: "stale", text: "this attempt has ended; run unlock --share again" };
    }
    const gathering = this.#begun();
    const fault = gathering.add(share);
    const { sealed, count, missing } = gathering;
    if (fault !== undefined) return { is: fault, text: describeFault(fault, share, sealed) };
    this.#timer ??= setTimeout(() => {
      this.clear();
      this.#options.onExpired?.();
    }, this.#options.windowMs ?? WINDOW_MS).unref();
    if (missing > 0) return { is: "accepted", text: `${count} of ${sealed.threshold} shares` };
    // Taken out before anything is awaited: no later share can reach this attempt.
    this.#gathering = undefined;
    this.clear();
    return { is: "complete", gathering };
  }

  /** Zeroes all shares and ends the attempt. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#gathering?.clear();
    this.#gathering = undefined;
    this.#nonce = newNonce();
  }

  /** The file may be replaced by the next epoch: it is read again until the first share has been accepted. */
  #begun(): Gathering {
    if (this.#gathering === undefined || this.#timer === undefined) {
      this.#gathering = new Gathering(this.#options.read());
    }
    return this.#gathering;
  }
}

function newNonce(): string {
  return randomBytes(NONCE_BYTES).toString("hex");
}

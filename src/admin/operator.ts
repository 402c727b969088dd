// The operator as admin/ sees them: somebody who reads lines, follows progress and may be asked for a PIN. cli/
// implements this on the terminal; nothing in admin/ knows about streams or formatting.
import type { Settings, TokenSettings } from "../config/settings.js";
import type { OperatorPin } from "../hsm/login/operator-pin.js";

export interface Progress {
  /** `total` may become known, or be corrected, during the work; an estimate is shown as one. */
  update(done: number, total?: number, isEstimate?: boolean): void;
  /** Removes the display; may be called more than once. */
  end(): void;
}

export interface PinPrompts {
  /**
   * Returns the PIN that the operator supplies instead of the configured source, or undefined if that source applies.
   * Prompts once for each token, even if the token is opened several times.
   * @throws KmsError PIN_UNREADABLE, CANCELLED, INPUT_INVALID
   */
  supplied(settings: Settings, token: TokenSettings): Promise<OperatorPin | undefined>;
  /** Returns whether to prompt for a PIN if the token requires one and no source is configured. */
  canPrompt(token: TokenSettings): boolean;
  /** Prompts for the token's PIN. @throws KmsError PIN_UNREADABLE, CANCELLED, INPUT_INVALID */
  prompt(token: TokenSettings): Promise<OperatorPin>;
}

export interface Operator {
  readonly pins: PinPrompts;
  /** Whether progress is drawn; if not, changes worth knowing are reported as lines. */
  readonly seesProgress: boolean;
  /** Shows one line. */
  notify(line: string): void;
  /** @param unit what is counted, in the plural: "objects". @param total 0 if not known yet */
  startProgress(unit: string, total: number): Progress;
  /** Shows one line that changes, computed whenever it is drawn. Returns a function that removes it. */
  showStatus(text: () => string): () => void;
}

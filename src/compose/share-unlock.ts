// Unlocks a token by shares that arrive on its unlock socket: judges each, records it, and tries the PIN once when there
// are enough. Loaded only if the configuration names a sealed PIN.
import { describeSelected } from "../config/pkcs11-uri.js";
import type { TokenSettings } from "../config/settings.js";
import { checkPin } from "../config/read-pin.js";
import { outdatedReason } from "../custody/outdated-pin.js";
import { readSealedPin } from "../custody/sealed-pin-file.js";
import { requireSealedFor, type SealedPin } from "../custody/sealed-pin.js";
import { parseShare } from "../custody/share.js";
import { UnlockWindow } from "../custody/unlock-window.js";
import type { Gathering } from "../custody/gathering.js";
import type { ShareEvent } from "../audit/line.js";
import type { Outdated } from "../hsm/login/operator-pin.js";
import type { UnlockAnswer } from "../server/unlock.js";

/** Tries a PIN and owns its buffer. @param outdated returns why it must not be tried any more */
export type TryPin = (pin: Buffer, outdated?: Outdated) => Promise<UnlockAnswer>;

/** What receiving shares needs from the plugin. */
export interface ShareUnlockOptions {
  readonly token: TokenSettings;
  readonly path: string;
  /** Whether all token hosts are logged in: then no share is needed. */
  readonly isLoggedIn: () => boolean;
  readonly tryPin: TryPin;
  readonly record: (event: Omit<ShareEvent, "event">) => void;
}

const LOGGED_IN = "the token is logged in already; no share is needed";

/** Receives the shares of one token's PIN. */
export class ShareUnlock {
  readonly #options: ShareUnlockOptions;
  readonly #window: UnlockWindow;
  /** How often the shares were zeroed by order. */
  #clearings = 0;

  constructor(options: ShareUnlockOptions) {
    this.#options = options;
    this.#window = new UnlockWindow({
      read: () => sealedPinOf(options),
      onExpired: () => {
        options.record({ outcome: "expired" });
      },
    });
  }

  /** Returns the state of the attempt, with the nonce that a share has to name. @throws KmsError */
  begin(): object {
    if (this.#options.isLoggedIn()) return { unlocked: true, message: LOGGED_IN };
    return { unlocked: false, message: "", ...this.#window.progress() };
  }

  /** Takes a share as text, which is zeroed. @throws KmsError INPUT_INVALID, or why the sealed PIN cannot be used */
  async add(nonce: string, text: Buffer): Promise<UnlockAnswer> {
    const { record, isLoggedIn } = this.#options;
    if (isLoggedIn()) {
      text.fill(0);
      return { unlocked: true, message: LOGGED_IN };
    }
    const share = readOrRecord(text, record);
    const { set, epoch, index } = share;
    const outcome = this.#window.add(nonce, share);
    record({ outcome: outcome.is === "complete" ? "accepted" : outcome.is, set, epoch, share: index });
    if (outcome.is === "complete") return this.#unlock(outcome.gathering);
    if (outcome.is === "accepted") return { unlocked: false, message: outcome.text, accepted: true };
    return { unlocked: false, message: outcome.text };
  }

  /** Zeroes the shares of the attempt. */
  clear(): void {
    this.#clearings++;
    this.#window.clear();
  }

  async #unlock(gathering: Gathering): Promise<UnlockAnswer> {
    const { token, path, tryPin } = this.#options;
    const { epoch, threshold } = gathering.sealed;
    const before = this.#clearings;
    const pin = checkPin(await gathering.open(), token.pin);
    if (this.#clearings !== before) {
      pin.fill(0);
      return { unlocked: false, message: "the plugin was locked meanwhile; run unlock --share again" };
    }
    const answer = await tryPin(pin, () => outdatedReason(path, gathering.sealed));
    const message = `${threshold} of ${threshold} shares (epoch ${epoch}): ${answer.message}`;
    return { ...answer, message };
  }
}

function readOrRecord(text: Buffer, record: ShareUnlockOptions["record"]): ReturnType<typeof parseShare> {
  try {
    return parseShare(text);
  } catch (error) {
    record({ outcome: "unreadable" });
    throw error;
  }
}

/** Returns the sealed PIN, which has to belong to this token and role. @throws KmsError CONFIG_INVALID */
function sealedPinOf({ path, token }: ShareUnlockOptions): SealedPin {
  const sealed = readSealedPin(path);
  requireSealedFor(sealed, { token: describeSelected(token.uri), role: token.userType }, path);
  return sealed;
}

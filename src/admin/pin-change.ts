// Changes the PIN of one token, for `custody renew`: what the token reports about its PINs without a login, whether it
// accepts a PIN, and C_SetPIN. Each PIN is tried through the login gate, so that no kill and no repetition spends another
// attempt.
import { loginDirectory } from "../config/login-directory.js";
import type { Settings, TokenSettings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import { HostFailure } from "../hsm/hosts/host-failure.js";
import { loginStores } from "../hsm/login/login-files.js";
import type { Pin } from "../hsm/login/login-gate.js";
import { markPin } from "../hsm/login/pin-digest.js";
import { nameToken } from "../hsm/login/token-name.js";
import type { TokenDescription } from "../hsm/port.js";
import type { TrialHost } from "../hsm/trial-host.js";
import type { Operator } from "./operator.js";
import { startTrialHost } from "./trial-host.js";

const CORRECTION = "nothing more is tried with these shares";

/** The PIN of one token. Its host ends with `stop`. */
export class PinChange {
  readonly #settings: Settings;
  readonly #operator: Operator;
  readonly #token: TokenSettings;
  #host: TrialHost | undefined;

  constructor(settings: Settings, operator: Operator, token: TokenSettings) {
    this.#settings = settings;
    this.#operator = operator;
    this.#token = token;
  }

  /** Returns the token, which must take its PIN from its library, without a login. @throws KmsError */
  async describe(): Promise<TokenDescription> {
    const described = (await this.#open(undefined)).token;
    const { label, loginRequired, protectedAuthenticationPath } = described;
    if (protectedAuthenticationPath) {
      const text = `token "${label}" takes PINs from its own keypad only (CKF_PROTECTED_AUTHENTICATION_PATH)`;
      throw new KmsError("TOKEN_REFUSED", `${text}: change its PIN there; nobody can split it`);
    }
    if (!loginRequired) throw new KmsError("CONFIG_INVALID", `token "${label}" needs no PIN`);
    return described;
  }

  /**
   * Returns whether a record of refused PINs would mistake `fresh` for another PIN: records hold ten bits of each.
   * @param present the PIN that is replaced, which nodes may refuse later
   */
  isMistakable(token: TokenDescription, fresh: Buffer, present: Buffer): boolean {
    const name = nameToken(token);
    const { refused } = loginStores(loginDirectory(this.#settings), 0);
    const mark = markPin(name, fresh);
    return mark === markPin(name, present) || refused.load(name).some((record) => record.mark === mark);
  }

  /** See TokenOfPin. */
  async refusalOf(pin: Buffer, name: string, isOnlyOneLeft: boolean): Promise<KmsError | undefined> {
    const outcome = { isRefused: false };
    const source: Pin = {
      description: name,
      correction: CORRECTION,
      showsChange: true,
      isOnlyOneLeft,
      read: () => Buffer.from(pin),
      stamp: () => name,
      settled: (_stamp, _failure, isWrong) => {
        outcome.isRefused = isWrong;
      },
    };
    const host = await this.#open(source);
    try {
      await host.login();
      return undefined;
    } catch (error) {
      if (outcome.isRefused) return KmsError.from(error);
      throw error;
    }
  }

  /** See TokenOfPin. The present PIN has logged in. */
  async change(present: Buffer, fresh: Buffer): Promise<KmsError | undefined> {
    if (this.#host === undefined) throw new TypeError("no PIN has logged in");
    try {
      await this.#host.setPin(present, fresh);
      return undefined;
    } catch (error) {
      if (error instanceof HostFailure && error.failure.fault === "setup") return error;
      throw error;
    }
  }

  /** Ends the token host. */
  async stop(): Promise<void> {
    await this.#host?.stop();
    this.#host = undefined;
  }

  /** Starts a token host. A login belongs to the process, so each PIN needs its own host. */
  async #open(suppliedPin: Pin | undefined): Promise<TrialHost> {
    await this.stop();
    this.#host = startTrialHost(this.#settings, this.#token, this.#operator, suppliedPin);
    await this.#host.open();
    return this.#host;
  }
}

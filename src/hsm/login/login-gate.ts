// Decides whether a login may be made. A wrong PIN costs one attempt, and a login with unknown outcome is retried at
// most once, across restarts, rewritten sources and processes: each retry may lock the token, and three control-plane
// nodes share one counter on a network HSM.
import { KmsError } from "../../errors.js";
import type { Log } from "../../log.js";
import type { LoginStores } from "./login-record.js";
import { PinLedger, type Candidate } from "./pin-ledger.js";
import { describeRecord } from "./login-refusals.js";
import { HostFailure } from "../hosts/host-failure.js";
import type { PinVerdict } from "../fault.js";
import { nameToken } from "./token-name.js";
import type { TokenDescription } from "../port.js";

/** A PIN source: a configured one, or an operator. */
export interface Pin {
  /** Returns the PIN, which the caller zeroes; undefined when none is configured. @throws KmsError PIN_UNREADABLE */
  read(): Buffer | undefined;
  /** Returns metadata of the source that reveals nothing of the PIN; different for two PINs if `showsChange`. */
  stamp(): string;
  /**
   * Whether the stamp changes with the PIN. The stamp of an environment variable does not, since it would reveal the
   * PIN.
   */
  readonly showsChange: boolean;
  /**
   * Whether the token can have no other PIN, since it has refused the only alternative. An attempt without a clear
   * answer is then repeated even if the token counts wrong PINs.
   */
  readonly isOnlyOneLeft?: boolean;
  readonly description: string;
  /** What to do about a refused PIN. */
  readonly correction: string;
  /**
   * Called with the outcome of the PIN that had this stamp.
   * @param failure undefined when it has logged in
   * @param isWrong whether it is not tried again
   */
  settled?(stamp: string, failure: KmsError | undefined, isWrong: boolean): void;
}

/** The PIN source, the records of earlier logins, and the limits of further attempts. */
export interface LoginGateOptions {
  readonly pin: Pin;
  readonly stores: LoginStores;
  /** Whether to spend the token's last attempt too. */
  readonly allowFinalTry: boolean;
  readonly log: Log;
  /** Pause after a login that the token refused for a reason other than the PIN, in ms; 60 s if omitted. */
  readonly recheckMs?: number;
}

const RECHECK_MS = 60_000;
/** Some tokens lock on the third wrong PIN without a warning, so at most two attempts may have an unknown outcome. */
const MOST_UNANSWERED = 2;

/**
 * A time before which no login is made: the token refuses every PIN, since it is locked or its PIN has expired or is
 * not set.
 */
interface LoginPause {
  readonly digest: string;
  readonly until: number;
  readonly refusal: KmsError;
}

/** Decides whether a login may be made, makes it, and records its outcome. */
export class LoginGate {
  readonly recheckMs: number;
  readonly #options: LoginGateOptions;
  readonly #ledger: PinLedger;
  readonly #pauses = new Map<string, LoginPause>();
  /** The token whose record forbids another attempt. */
  #latched: string | undefined;
  #turn: Promise<void> = Promise.resolve();

  constructor(options: LoginGateOptions) {
    this.#options = options;
    this.recheckMs = options.recheckMs ?? RECHECK_MS;
    this.#ledger = new PinLedger(options.stores, options.log);
  }

  /**
   * Logs in by `attempt`, one login at a time over all token hosts and all processes that share the state directory.
   * @param describe reads the token again, since every attempt by any client changes its PIN flags
   * @throws KmsError PIN_REFUSED, PIN_UNREADABLE or STATE_UNUSABLE if no attempt may be made; HSM_UNAVAILABLE if
   * another process holds the lock for too long; what `attempt` throws
   */
  async login(
    describe: () => Promise<TokenDescription>,
    attempt: (pin: Buffer) => Promise<void>,
  ): Promise<void> {
    const before = this.#turn;
    let release = (): void => undefined;
    this.#turn = new Promise((resolve) => (release = resolve));
    await before;
    try {
      const found = await describe();
      if (found.loggedIn) return;
      await this.#options.stores.exclusively(nameToken(found), async (unlocked) => {
        await this.#loginInTurn(await describe(), attempt, unlocked);
      });
    } finally {
      release();
    }
  }

  /** Returns whether the source has changed since its PIN was refused, or the record against it has been removed. */
  mayTryAgain(stampAtRefusal: string): boolean {
    const stamp = this.#options.pin.stamp();
    return (
      stamp !== stampAtRefusal || (this.#latched !== undefined && !this.#ledger.has(this.#latched, stamp))
    );
  }

  /** The present stamp of the PIN source. */
  get stamp(): string {
    return this.#options.pin.stamp();
  }

  async #loginInTurn(
    token: TokenDescription,
    attempt: (pin: Buffer) => Promise<void>,
    unlocked: unknown,
  ): Promise<void> {
    const { pin: source } = this.#options;
    // Read before the PIN: if the PIN changes in between, the next check finds a different stamp.
    const stamp = source.stamp();
    this.#latched = undefined;
    const pin = this.#readFor(token);
    if (pin === undefined) return;
    try {
      const { description, showsChange } = source;
      const from = { token: nameToken(token), source: description, stamp, showsChange };
      await this.#tryOnce(token, this.#ledger.candidate(from, pin), attempt, unlocked);
      source.settled?.(stamp, undefined, false);
    } catch (error) {
      source.settled?.(stamp, KmsError.from(error), this.#isLatched());
      throw error;
    } finally {
      pin.fill(0);
    }
  }

  /** A method, since the compiler would keep a field's narrowed type across an await. */
  #isLatched(): boolean {
    return this.#latched !== undefined;
  }

  async #tryOnce(
    token: TokenDescription,
    candidate: Candidate,
    attempt: (pin: Buffer) => Promise<void>,
    unlocked: unknown,
  ): Promise<void> {
    this.#refuseWhilePaused(candidate);
    await this.#refuseKnown(token, candidate);
    this.#refuseByFlags(token);
    const begun = await this.#ledger.begin(candidate, unlocked);
    try {
      await attempt(candidate.pin);
    } catch (error) {
      const failure = KmsError.from(error);
      const verdict = (failure instanceof HostFailure ? failure.failure.pin : undefined) ?? "unknown";
      await this.#ledger.fail(candidate, begun, verdict, failure.message);
      throw this.#refusal(candidate, verdict, failure);
    }
    await this.#ledger.accept(candidate, begun);
  }

  /** Returns the error to throw, and records that no further attempt is allowed. */
  #refusal({ token, digest }: Candidate, verdict: PinVerdict, failure: KmsError): KmsError {
    if (verdict === "wrong") {
      this.#latched = token;
      return new KmsError("PIN_REFUSED", `${failure.message}; ${this.#options.pin.correction}`, failure);
    }
    if (verdict === "unspent" && failure.code === "PIN_REFUSED") {
      this.#pauses.set(token, { digest, until: performance.now() + this.recheckMs, refusal: failure });
    }
    return failure;
  }

  #readFor(token: TokenDescription): Buffer | undefined {
    if (token.loginRequired && token.protectedAuthenticationPath) {
      throw new KmsError(
        "TOKEN_REFUSED",
        `token "${token.label}" reads its PIN from its own keypad (CKF_PROTECTED_AUTHENTICATION_PATH), where ` +
          "the plugin cannot enter it; configure the token to accept a PIN from its library",
      );
    }
    const pin = this.#options.pin.read();
    if (pin !== undefined || !token.loginRequired) return pin;
    throw new KmsError(
      "PIN_UNREADABLE",
      `token "${token.label}" requires a login, but no PIN source is configured; add pin-source to the URI, or give ` +
        "--pin-stdin to a command",
    );
  }

  #refuseWhilePaused({ token, digest }: Candidate): void {
    const pause = this.#pauses.get(token);
    if (pause?.digest === digest && performance.now() < pause.until) throw pause.refusal;
    this.#pauses.delete(token);
  }

  async #refuseKnown(token: TokenDescription, candidate: Candidate): Promise<void> {
    const record = await this.#ledger.find(candidate);
    if (record === undefined) return;
    const { unanswered } = record;
    const counted = token.pinCountLow || token.pinFinalTry;
    const mayGoOn = this.#ledger.wasAccepted(candidate) || (unanswered ?? 0) < MOST_UNANSWERED;
    const isOnlyOneLeft = this.#options.pin.isOnlyOneLeft === true;
    if (unanswered !== undefined && (isOnlyOneLeft || (mayGoOn && !counted))) return;
    this.#latched = candidate.token;
    throw new KmsError(
      "PIN_REFUSED",
      describeRecord(record, this.#options.pin, { counted, path: this.#options.stores.refused.path }),
    );
  }

  #refuseByFlags(token: TokenDescription): void {
    if (token.pinLocked) {
      throw new KmsError(
        "PIN_REFUSED",
        `token "${token.label}" is locked; its security officer must reset the PIN`,
      );
    }
    if (token.pinFinalTry && !this.#options.allowFinalTry) {
      throw new KmsError(
        "PIN_REFUSED",
        `token "${token.label}" has one PIN attempt left, which the plugin does not use; check the PIN, then reset the ` +
          "counter by logging in with another tool, or set hsm.allowFinalTry",
      );
    }
    if (token.pinCountLow) {
      this.#options.log.warn({ token: token.label }, "token reports few PIN attempts left");
    }
  }
}

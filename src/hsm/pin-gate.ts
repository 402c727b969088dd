// The gate before every login: a wrong PIN costs one attempt, and one whose answer was lost is made once more at
// most, whatever restarts. Both are remembered by the metadata of the PIN's source, in memory and in the state
// directory, and nothing more is tried until the source changes: retrying locks tokens, and three control-plane
// nodes share one counter on a network HSM. Nothing from which the PIN could be guessed is stored.
import { createHash } from "node:crypto";
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import { PinHistory, type PinMemories, type PinRecord } from "./pin-history.js";
import { HostFailure } from "./token-host.js";
import type { TokenDescription } from "./wire.js";

/** Where the PIN comes from, as the configuration says. */
export interface Pin {
  /** Returns the PIN, which the caller zeroes; undefined when none is configured. @throws KmsError PIN_UNREADABLE */
  read(): Buffer | undefined;
  /** Never the same for two PINs where `showsChange`; tells nothing of the PIN. */
  stamp(): string;
  /** Whether the stamp changes with the PIN; an environment variable's cannot without telling of it. */
  readonly showsChange: boolean;
  readonly description: string;
}

export interface PinGateOptions {
  readonly pin: Pin;
  readonly memories: PinMemories;
  /** Spend the token's last attempt too. */
  readonly allowFinalTry: boolean;
  readonly log: Log;
  /** How long a token is left alone that refuses logins for another reason than the PIN; 60 s if left out. */
  readonly recheckMs?: number;
}

const RECHECK_MS = 60_000;
/** Tokens that lock on the third wrong PIN, and do not warn, leave room for two of which nothing is known. */
const MOST_UNANSWERED = 2;

/** A token that refused a login, whatever the PIN: it is locked, or its PIN has expired or was never set. */
interface Rest {
  readonly stamp: string;
  readonly until: number;
  readonly refusal: KmsError;
}

export class PinGate {
  readonly recheckMs: number;
  readonly #options: PinGateOptions;
  readonly #history: PinHistory;
  readonly #accepted: PinHistory;
  readonly #resting = new Map<string, Rest>();
  /** The token whose record forbids another attempt. */
  #latched: string | undefined;
  #turn: Promise<void> = Promise.resolve();

  constructor(options: PinGateOptions) {
    this.#options = options;
    this.recheckMs = options.recheckMs ?? RECHECK_MS;
    this.#history = new PinHistory(options.memories.refused, options.log);
    this.#accepted = new PinHistory(options.memories.accepted, options.log);
  }

  /**
   * Logs in by `attempt`, one login at a time over all token hosts.
   * @param describe reads the token afresh: its PIN flags change by every attempt, anybody's
   * @throws KmsError PIN_REFUSED or PIN_UNREADABLE when none may be made; what `attempt` throws
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
      const token = await describe();
      if (!token.loggedIn) await this.#loginInTurn(token, attempt);
    } finally {
      release();
    }
  }

  /** Whether the source has changed since its PIN was refused, or what was remembered of it has been removed. */
  mayTryAgain(stampAtRefusal: string): boolean {
    if (this.#options.pin.stamp() !== stampAtRefusal) return true;
    return this.#latched !== undefined && this.#history.of(this.#latched)?.stamp !== stampAtRefusal;
  }

  get stamp(): string {
    return this.#options.pin.stamp();
  }

  async #loginInTurn(token: TokenDescription, attempt: (pin: Buffer) => Promise<void>): Promise<void> {
    const stamp = this.#options.pin.stamp();
    const name = nameToken(token);
    this.#latched = undefined;
    this.#refuseKnown(token, name, stamp);
    this.#refuseByFlags(token);
    const pin = this.#readFor(token);
    if (pin === undefined) return;
    try {
      await this.#spend(name, stamp, () => attempt(pin));
    } finally {
      pin.fill(0);
    }
  }

  #readFor(token: TokenDescription): Buffer | undefined {
    if (token.loginRequired && token.protectedAuthenticationPath) {
      throw new KmsError(
        "TOKEN_REFUSED",
        `token "${token.label}" takes its PIN on a keypad of its own (CKF_PROTECTED_AUTHENTICATION_PATH), where ` +
          "the plugin cannot enter it; let the token take a PIN from its library",
      );
    }
    const pin = this.#options.pin.read();
    if (pin !== undefined || !token.loginRequired) return pin;
    throw new KmsError(
      "PIN_UNREADABLE",
      `token "${token.label}" wants a login and no PIN source is configured; add pin-source to the URI`,
    );
  }

  /** Makes the attempt, which counts as unanswered from before it until its answer is there. */
  async #spend(name: string, stamp: string, attempt: () => Promise<void>): Promise<void> {
    const before = this.#history.of(name);
    const unanswered = 1 + (before?.stamp === stamp ? (before.unanswered ?? 0) : 0);
    const begun = { stamp, unanswered, reason: "the plugin ended", at: new Date().toISOString() };
    this.#history.put(name, begun);
    try {
      await attempt();
      if (this.#accepted.of(name)?.stamp !== stamp)
        this.#accepted.put(name, { stamp, reason: "accepted", at: begun.at });
      this.#history.put(name, undefined);
    } catch (error) {
      const refusal = KmsError.from(error);
      const { pin } = error instanceof HostFailure ? error.failure : {};
      if (pin === "wrong") {
        this.#latched = name;
        this.#accepted.put(name, undefined);
        this.#history.put(name, { stamp, reason: refusal.message, at: begun.at });
      } else if (pin === "unspent") {
        this.#history.put(name, before);
        if (refusal.code === "PIN_REFUSED")
          this.#resting.set(name, { stamp, until: performance.now() + this.recheckMs, refusal });
      } else {
        this.#history.put(name, { ...begun, reason: refusal.message });
      }
      throw error;
    }
  }

  #refuseKnown(token: TokenDescription, name: string, stamp: string): void {
    const rest = this.#resting.get(name);
    if (rest?.stamp === stamp && performance.now() < rest.until) throw rest.refusal;
    this.#resting.delete(name);
    const record = this.#history.of(name);
    if (record?.stamp !== stamp) return;
    const { unanswered } = record;
    const counted = token.pinCountLow || token.pinFinalTry;
    const mayGoOn = this.#accepted.of(name)?.stamp === stamp || (unanswered ?? 0) < MOST_UNANSWERED;
    if (unanswered !== undefined && mayGoOn && !counted) return;
    this.#latched = name;
    throw new KmsError(
      "PIN_REFUSED",
      unanswered === undefined ? this.#tellRefused(record) : this.#tellUnanswered(record, counted),
    );
  }

  #tellRefused({ at, reason }: PinRecord): string {
    return (
      `the PIN from ${this.#options.pin.description} was refused at ${at} and is not tried again; ` +
      `${this.#correction} (${reason})`
    );
  }

  #tellUnanswered({ at, reason }: PinRecord, counted: boolean): string {
    const why = counted
      ? "the token counts a wrong PIN"
      : "it was tried twice, and a third wrong PIN locks tokens";
    return (
      `a login with the PIN from ${this.#options.pin.description} had no clear answer at ${at} and is not tried again, ` +
      `since ${why}; make sure that the PIN is right, then ${this.#correction} (${reason})`
    );
  }

  /** What lets the PIN be tried again. */
  get #correction(): string {
    const { pin, memories } = this.#options;
    const { place } = memories.refused;
    if (pin.showsChange)
      return `correct or touch it there${place === undefined ? "" : `, or remove ${place}`}`;
    return place === undefined
      ? "correct it there and restart the plugin"
      : `correct it there and remove ${place}`;
  }

  #refuseByFlags(token: TokenDescription): void {
    if (token.pinLocked) {
      throw new KmsError(
        "PIN_REFUSED",
        `token "${token.label}" is locked; its security officer has to reset the PIN`,
      );
    }
    if (token.pinFinalTry && !this.#options.allowFinalTry) {
      throw new KmsError(
        "PIN_REFUSED",
        `token "${token.label}" has one PIN attempt left, which is not spent; check the PIN, then reset the ` +
          "counter by a login with another tool or set hsm.allowFinalTry",
      );
    }
    if (token.pinCountLow) {
      this.#options.log.warn({ token: token.label }, "token reports few PIN attempts left");
    }
  }
}

function nameToken(token: TokenDescription): string {
  const { label, serial, manufacturer, model } = token;
  return createHash("sha256")
    .update(JSON.stringify([label, serial, manufacturer, model]))
    .digest("hex")
    .slice(0, 32);
}

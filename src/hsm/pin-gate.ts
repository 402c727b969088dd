// The gate before every login: a wrong PIN costs one attempt, whatever restarts. A refusal is remembered by
// the metadata of the PIN's source, in memory and in the state directory, and no further attempt is made
// until the source changes: retrying locks tokens, and three control-plane nodes share one counter on a
// network HSM. Nothing from which the PIN could be guessed is stored.
import { createHash } from "node:crypto";
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import { HostFailure } from "./token-host.js";
import type { TokenDescription } from "./wire.js";

/** Where the PIN comes from, as the configuration says. */
export interface Pin {
  /** Returns the PIN, which the caller zeroes; undefined when none is configured. @throws KmsError PIN_UNREADABLE */
  read(): Buffer | undefined;
  /** Changes when the source does; tells nothing of the PIN. */
  stamp(): string;
  readonly description: string;
}

export interface RefusedPin {
  readonly stamp: string;
  readonly reason: string;
  readonly at: string;
}

/** Where refusals outlive the process. */
export interface PinMemory {
  load(token: string): RefusedPin | undefined;
  save(token: string, refused: RefusedPin | undefined): void;
}

export interface PinGateOptions {
  readonly pin: Pin;
  readonly memory: PinMemory;
  /** Spend the token's last attempt too. */
  readonly allowFinalTry: boolean;
  readonly log: Log;
}

export class PinGate {
  readonly #options: PinGateOptions;
  readonly #refused = new Map<string, RefusedPin>();
  #turn: Promise<void> = Promise.resolve();

  constructor(options: PinGateOptions) {
    this.#options = options;
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

  /** Whether the source has changed since its PIN was refused; true when nothing has been refused. */
  mayTryAgain(stampAtRefusal: string): boolean {
    return this.#options.pin.stamp() !== stampAtRefusal;
  }

  get stamp(): string {
    return this.#options.pin.stamp();
  }

  async #loginInTurn(token: TokenDescription, attempt: (pin: Buffer) => Promise<void>): Promise<void> {
    const stamp = this.#options.pin.stamp();
    const name = nameToken(token);
    this.#refuseKnown(token, name, stamp);
    const pin = this.#options.pin.read();
    if (pin === undefined) {
      if (!token.loginRequired) return;
      throw new KmsError(
        "PIN_UNREADABLE",
        `token "${token.label}" wants a login and no PIN source is configured; add pin-source to the URI`,
      );
    }
    try {
      await attempt(pin);
      this.#forget(name);
    } catch (error) {
      if (error instanceof HostFailure && error.code === "PIN_REFUSED")
        this.#remember(name, stamp, error.message);
      throw error;
    } finally {
      pin.fill(0);
    }
  }

  #refuseKnown(token: TokenDescription, name: string, stamp: string): void {
    const refused = this.#refused.get(name) ?? this.#options.memory.load(name);
    if (refused?.stamp === stamp) {
      throw new KmsError(
        "PIN_REFUSED",
        `the PIN from ${this.#options.pin.description} was refused at ${refused.at} and is not tried again; ` +
          `correct it there (${refused.reason})`,
      );
    }
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

  #remember(name: string, stamp: string, reason: string): void {
    const refused = { stamp, reason, at: new Date().toISOString() };
    this.#refused.set(name, refused);
    this.#save(name, refused);
  }

  #forget(name: string): void {
    const known = this.#refused.delete(name);
    if (known || this.#options.memory.load(name) !== undefined) this.#save(name, undefined);
  }

  #save(name: string, refused: RefusedPin | undefined): void {
    try {
      this.#options.memory.save(name, refused);
    } catch (error) {
      this.#options.log.error(
        { err: error },
        "cannot record a refused PIN; it is remembered until the next restart only",
      );
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

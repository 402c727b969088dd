// A PIN that an operator passes to the plugin. It is never written to disk and stays in memory, since each replacement
// token host logs in again. A PIN that is passed while another is in use replaces it only after it has logged in.
import { performance } from "node:perf_hooks";
import { setTimeout } from "node:timers/promises";
import { KmsError } from "../../errors.js";
import type { Pin } from "./login-gate.js";
import type { HsmState } from "../port.js";

const POLL_MS = 50;

interface Held {
  readonly pin: Buffer;
  readonly stamp: string;
  readonly outdated: Outdated;
}

/** Returns why a PIN must not be tried now, in one line; undefined if it may be. */
export type Outdated = () => string | undefined;

/** A PIN that an operator has passed. */
export interface Offer {
  /** Returns its outcome; undefined while no token has answered. */
  outcome(): { readonly accepted: true } | { readonly refusal: KmsError } | undefined;
  /** Withdraws it; the PIN in use stays. */
  withdraw(): void;
}

/** The texts about an operator's PIN in messages. */
export interface OperatorPinTexts {
  readonly description: string;
  /** What to do while no PIN has been passed. */
  readonly missing: string;
  /** What to do about a refused PIN. */
  readonly correction: string;
}

/** Holds the PIN that an operator passed. */
export class OperatorPin implements Pin {
  readonly description: string;
  readonly correction: string;
  readonly showsChange = true;
  readonly #missing: string;
  #inUse: Held | undefined;
  #offered: (Held & { settle: (failure: KmsError | undefined) => void }) | undefined;
  #given = 0;

  constructor({ description, missing, correction }: OperatorPinTexts) {
    this.description = description;
    this.correction = correction;
    this.#missing = missing;
  }

  /**
   * Takes ownership of a buffer with a PIN for the next login. Zeroes a PIN that was offered before and not used.
   * @param outdated asked before each login
   */
  offer(pin: Buffer, outdated: Outdated = () => undefined): Offer {
    this.#offered?.pin.fill(0);
    let outcome: ReturnType<Offer["outcome"]>;
    const stamp = this.#stampOf(++this.#given);
    const settle = (failure: KmsError | undefined): void => {
      outcome = failure === undefined ? { accepted: true } : { refusal: failure };
    };
    this.#offered = { pin, stamp, outdated, settle };
    return {
      outcome: () => outcome,
      withdraw: () => {
        if (this.#offered?.stamp === stamp) this.#dropOffered();
      },
    };
  }

  /** Zeroes every PIN; one that is still being tried is refused. */
  forget(): void {
    this.#offered?.settle(
      new KmsError("CANCELLED", "the plugin was locked meanwhile, so the PIN was forgotten"),
    );
    this.#dropOffered();
    this.#inUse?.pin.fill(0);
    this.#inUse = undefined;
  }

  /** @throws KmsError PIN_UNREADABLE if no PIN is held, or the one that is must not be tried */
  read(): Buffer {
    const held = this.#offered ?? this.#inUse;
    if (held === undefined) throw new KmsError("PIN_UNREADABLE", this.#missing);
    const reason = held.outdated();
    if (reason !== undefined) throw new KmsError("PIN_UNREADABLE", `${reason}; ${this.correction}`);
    return Buffer.from(held.pin);
  }

  /** Returns a text that differs for each PIN that is passed and for each process. */
  stamp(): string {
    return (this.#offered ?? this.#inUse)?.stamp ?? this.#stampOf(0);
  }

  /** Keeps a PIN that has no clear answer yet, and the only PIN while the token refuses every login. */
  settled(stamp: string, failure: KmsError | undefined, isWrong: boolean): void {
    const offered = this.#offered;
    if (offered?.stamp !== stamp || (failure !== undefined && failure.code !== "PIN_REFUSED")) return;
    if (failure === undefined) {
      this.#inUse?.pin.fill(0);
      this.#inUse = offered;
      this.#offered = undefined;
    } else if (isWrong || this.#inUse !== undefined) {
      this.#dropOffered();
    }
    offered.settle(failure);
  }

  #dropOffered(): void {
    this.#offered?.pin.fill(0);
    this.#offered = undefined;
  }

  #stampOf(given: number): string {
    return `held:${performance.timeOrigin}:${given}`;
  }
}

/** How to learn the outcome of a PIN, and how long to wait for it, in ms. */
export interface VerdictOptions {
  readonly state: () => HsmState;
  /** Returns whether no login is expected. */
  readonly idle: () => boolean;
  readonly limitMs: number;
}

/** The outcome of a PIN that an operator passed. */
export type Verdict =
  | { readonly is: "accepted" }
  /** No login was needed; the PIN has been withdrawn. */
  | { readonly is: "untried" }
  | { readonly is: "refused"; readonly reason: KmsError }
  /** The token does not answer; the PIN is tried as soon as it does. */
  | { readonly is: "waiting"; readonly reason: KmsError | undefined };

/** Waits for a token's answer to a PIN that has just been passed, and returns it. */
export async function verdictOn(offer: Offer, { state, idle, limitMs }: VerdictOptions): Promise<Verdict> {
  const before = state();
  const until = performance.now() + limitMs;
  for (;;) {
    const outcome = offer.outcome();
    if (outcome !== undefined) {
      return "accepted" in outcome ? { is: "accepted" } : { is: "refused", reason: outcome.refusal };
    }
    if (idle()) {
      offer.withdraw();
      return { is: "untried" };
    }
    const now = state();
    const reason = now.up ? undefined : now.reason;
    const isNew = !before.up && reason !== before.reason && comesFromToken(reason);
    if (isNew || performance.now() > until) return { is: "waiting", reason };
    await setTimeout(POLL_MS);
  }
}

/** An attempt that began before the PIN was passed fails for lack of a PIN, which says nothing about this one. */
function comesFromToken(reason: KmsError | undefined): boolean {
  return reason !== undefined && reason.code !== "PIN_UNREADABLE" && reason.code !== "PIN_REFUSED";
}

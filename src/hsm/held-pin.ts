// A PIN that somebody hands over to the running plugin: it is on no disk, and stays in memory, since a token host
// that is replaced has to log in anew.
import { performance } from "node:perf_hooks";
import { setTimeout } from "node:timers/promises";
import { KmsError } from "../errors.js";
import type { Pin } from "./pin-gate.js";
import type { HsmState } from "./port.js";

const LOOK_MS = 50;

export class HeldPin implements Pin {
  readonly description: string;
  readonly showsChange = true;
  readonly #missing: string;
  #pin: Buffer | undefined;
  #given = 0;

  /** @param missing what to do while nobody has handed one over */
  constructor(description: string, missing: string) {
    this.description = description;
    this.#missing = missing;
  }

  /** Takes the PIN over, a buffer of its own; the one before is zeroed. */
  give(pin: Buffer): void {
    this.forget();
    this.#pin = pin;
    this.#given++;
  }

  forget(): void {
    this.#pin?.fill(0);
    this.#pin = undefined;
  }

  read(): Buffer {
    if (this.#pin === undefined) throw new KmsError("PIN_UNREADABLE", this.#missing);
    return Buffer.from(this.#pin);
  }

  /** Another for each PIN that is handed over, and for each process. */
  stamp(): string {
    return `held:${String(performance.timeOrigin)}:${String(this.#given)}`;
  }
}

/**
 * Waits for what a token makes of a PIN that it is given by `give`. Returns its state after the next attempt, or as it
 * was when that takes longer than `limitMs`.
 */
export async function stateAfter(
  give: () => void,
  state: () => HsmState,
  limitMs: number,
): Promise<HsmState> {
  const before = state();
  give();
  const until = performance.now() + limitMs;
  for (;;) {
    const now = state();
    if (now.up || performance.now() > until) return now;
    if (!before.up && now.reason !== before.reason && isOfThisPin(now.reason)) return now;
    await setTimeout(LOOK_MS);
  }
}

/** An attempt that had begun before the PIN was there fails for want of one. */
function isOfThisPin(reason: KmsError | undefined): boolean {
  return reason !== undefined && reason.code !== "PIN_UNREADABLE";
}

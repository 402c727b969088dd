// Decides when to read the keyring with a reloaded library although no KEK seems to be removed. Some libraries (TPMs)
// read their store only when they are loaded: they show no new KEK, and continue to encrypt under one that has since
// been destroyed. Whether a library is of that kind is found by comparing what it shows before and after a reload,
// never by its vendor; until a change shows otherwise, the library might be. Every library is also reloaded after each
// activation: a destroyed standby KEK must not become active.
import type { Log } from "../log.js";
import type { Generation, Schedule } from "./generations.js";

/** Time between two reloads of a library that shows changes without them, in ms. */
export const RELOAD_MS = 10 * 60_000;

/** The time between two reloads for each kind of library. */
export interface ReloadIntervals {
  /** Time between two reloads of a library that shows changes only after a reload, in ms. */
  readonly oftenMs: number;
  /** Time between two reloads of a library that has not shown any change yet, in ms. */
  readonly untilKnownMs: number;
  /** Time between two reloads of a library that shows changes without a reload, in ms. */
  readonly rarelyMs: number;
}

/** When reloads are due, and the clocks. */
export interface ReloadOptions {
  /** Undefined: reload at activations only, since a reload would leave requests without a token host. */
  readonly intervals: ReloadIntervals | undefined;
  /** Wall clock, ms since the epoch. */
  readonly wallNow?: () => number;
  /** A monotonic clock in ms. */
  readonly now?: () => number;
  /** What is known of the library; clusters that share a token share it. */
  readonly library?: LibraryKind;
}

/** What kind a library is. */
export interface LibraryKind {
  /** Whether it shows changes only after a reload; undefined until a change has shown it. */
  needsReload?: boolean;
}

/** The keys shown by the last reading, by the loaded library just before a reload, and after the reload. */
export interface ReloadResult {
  readonly previous: Schedule;
  readonly loaded: Schedule;
  readonly reloaded: Schedule;
}

/** Minimum gap between two reloads, as a multiple of the time that the last one took. */
const GAP_SHARE = 5;
/** The minimum gap for a library that may not need reloads: requests have no warm token host during a reload. */
const GAP_SHARE_UNTIL_KNOWN = 20;

/** Decides when a reading needs a reloaded library. */
export class ReloadSchedule {
  readonly #intervals: ReloadIntervals | undefined;
  readonly #wallNow: () => number;
  readonly #now: () => number;
  readonly #library: LibraryKind;
  /** Activations up to this instant are followed by a reload, by the wall clock. */
  #coveredUntil: number;
  #claimedAt: number;
  /** When the last reload was claimed, by the monotonic clock. */
  #at: number;
  #tookMs = 0;

  /** Assumes that the libraries have just been loaded. */
  constructor({
    intervals,
    wallNow = () => Date.now(),
    now = () => performance.now(),
    library = {},
  }: ReloadOptions) {
    this.#library = library;
    this.#intervals = intervals;
    this.#wallNow = wallNow;
    this.#now = now;
    this.#coveredUntil = this.#claimedAt = wallNow();
    this.#at = now();
  }

  /**
   * Returns why the next reading needs a reloaded library; undefined if it does not. After an activation, every reading
   * claims a reload until `noteReload` reports that one has succeeded.
   */
  claim(generations: readonly Generation[]): "activation" | "interval" | undefined {
    const wallNow = this.#wallNow();
    const wasActivated = generations.some(
      ({ activation }) => activation > this.#coveredUntil && activation <= wallNow,
    );
    if (!wasActivated && this.#now() - this.#at < this.#intervalMs) return undefined;
    this.#claimedAt = wallNow;
    this.#at = this.#now();
    return wasActivated ? "activation" : "interval";
  }

  /** Notes that the claimed reload has succeeded. */
  noteReload(): void {
    this.#coveredUntil = this.#claimedAt;
  }

  /**
   * Learns from a claimed reload what kind of library it is. A library that showed neither the previous keys nor those
   * after the reload may have lost its token in between, which says nothing about its kind.
   */
  learn({ previous, loaded, reloaded }: ReloadResult, log: Log): void {
    this.#tookMs = this.#now() - this.#at;
    const isUnchanged = isSame(loaded, previous);
    if (isUnchanged === isSame(loaded, reloaded) || this.#library.needsReload === isUnchanged) return;
    this.#library.needsReload = isUnchanged;
    const when = isUnchanged ? "only after a reload; it is reloaded regularly" : "without a reload";
    log.info({}, `the token's library shows new and destroyed KEKs ${when}`);
  }

  get #intervalMs(): number {
    if (this.#intervals === undefined) return Infinity;
    const { oftenMs, untilKnownMs, rarelyMs } = this.#intervals;
    if (this.#library.needsReload === undefined) {
      return Math.max(untilKnownMs, GAP_SHARE_UNTIL_KNOWN * this.#tookMs);
    }
    return this.#library.needsReload ? Math.max(oftenMs, GAP_SHARE * this.#tookMs) : rarelyMs;
  }
}

function isSame(one: Schedule, other: Schedule): boolean {
  return namesOf(one) === namesOf(other);
}

/** Names all keys that carry the object's name, the refused ones included. */
function namesOf({ generations, refused }: Schedule): string {
  const keyIds = [...generations, ...refused].map(({ record }) => record.keyId);
  return keyIds.sort().join(" ");
}

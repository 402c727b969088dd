// Which KEK Encrypt uses. It changes only in the moment a Status answer carries it, so that an Encrypt never
// answers with another key_id than the last Status did; only to a generation that the token still holds after
// its instant and that has passed its self-test; and never back to an earlier one, whatever the clock says
// (A, B, A would confuse the API server's staleness check).
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import { activeAt, findByKeyId, type Generation } from "./generations.js";
import type { Keyring } from "./keyring.js";
import type { Prover } from "./prover.js";

/** The last key_id that this node published, kept over restarts. */
export interface Published {
  readonly keyId: string;
  /** ms since the epoch; null for a plain label. */
  readonly activation: number | null;
}

export interface PublishedMemory {
  load(): Published | undefined;
  /** @throws Error when it cannot be kept */
  save(published: Published): void;
}

export interface ActiveKeyOptions {
  readonly keyring: Keyring;
  readonly prover: Prover;
  readonly memory: PublishedMemory;
  /** No switch is made while the HSM is away: the first Encrypt under the new KEK would fail. */
  readonly isHsmAway: () => boolean;
  /** Why KEKs may be missing from the keyring although it could be read; undefined when none are. */
  readonly unread: () => KmsError | undefined;
  /** Wall clock, ms since the epoch. */
  readonly now: () => number;
  /** When the token was last looked at, by the same clock; undefined before the first time. */
  readonly checkedAt: () => number | undefined;
  readonly log: Log;
}

export class ActiveKey {
  readonly #options: ActiveKeyOptions;
  #published: Generation | undefined;
  #heldBack: KmsError | undefined;
  /** Why a generation that may be used is not published. */
  #unrecorded: KmsError | undefined;
  #clockWarned = false;

  constructor(options: ActiveKeyOptions) {
    this.#options = options;
  }

  /** The generation that Encrypt uses; undefined before the first. */
  get published(): Generation | undefined {
    return this.#published;
  }

  /** Why a generation that is due is not used; undefined when none is held back. */
  get heldBack(): KmsError | undefined {
    return this.#unrecorded ?? this.#heldBack;
  }

  /** The generation published last, if only before a restart: API servers go on with it until they ask again. */
  get lastPublished(): Generation | undefined {
    return this.#published ?? this.#remembered();
  }

  /** The generation that the next Status will publish in place of the last one; undefined when none waits for that. */
  get due(): Generation | undefined {
    const next = this.current;
    return next?.record.keyId === this.lastPublished?.record.keyId ? undefined : next;
  }

  #remembered(): Generation | undefined {
    const last = this.#options.memory.load();
    return last && findByKeyId(this.#options.keyring.schedule, last.keyId);
  }

  /**
   * Switches if a switch is due, and returns the generation to publish now.
   * @throws KmsError KEY_MISSING, KEY_AMBIGUOUS, KEY_UNSUITABLE when no generation can be used
   */
  advance(): Generation {
    return this.#publish(this.choose());
  }

  /** The generation that would be published now; undefined when there is none. */
  get current(): Generation | undefined {
    try {
      return this.choose();
    } catch {
      return this.#published;
    }
  }

  /** As `advance`, without publishing it. @throws KmsError likewise */
  choose(): Generation {
    const published = this.#published;
    if (published === undefined) return this.#first();
    const due = this.#due(published);
    if (due !== undefined && this.#isReady(due)) return due;
    const present = findByKeyId(this.#options.keyring.schedule, published.record.keyId);
    if (present !== undefined) return present;
    throw new KmsError(
      "KEY_MISSING",
      `the active KEK ${published.record.keyId} is gone from the token; restore it, or rotate forward to a new one`,
    );
  }

  /** The later generation that is due after the published one. */
  #due(published: Generation): Generation | undefined {
    this.#heldBack = undefined;
    const { keyring, isHsmAway } = this.#options;
    if (isHsmAway()) return undefined;
    if (published.activation > this.#asOf()) {
      this.#warnOfClock(published);
      return undefined;
    }
    try {
      const due = activeAt(keyring.schedule, keyring.policy, this.#asOf());
      if (due.record.keyId === published.record.keyId) return undefined;
      return isLater(due, published) ? due : undefined;
    } catch {
      // The schedule names none: whether the published one is still there decides.
      return undefined;
    }
  }

  #isReady(due: Generation): boolean {
    const { prover } = this.#options;
    this.#heldBack = undefined;
    if (isProven(prover, due)) return true;
    const why = prover.proofOf(due.record.keyId).failure?.message ?? "it has not passed its self-test yet";
    this.#heldBack = new KmsError(
      "KEY_UNSUITABLE",
      `KEK ${due.record.keyId} is due but not activated: ${why}`,
    );
    return false;
  }

  /** At the start: what the schedule says, unless this node had published a later generation already. */
  #first(): Generation {
    const { keyring, memory, prover } = this.#options;
    const before = memory.load();
    const known = before === undefined ? undefined : findByKeyId(keyring.schedule, before.keyId);
    const isBehind = known !== undefined && known.activation > this.#asOf();
    const chosen = isBehind ? known : this.#scheduled();
    if (isBehind) this.#warnOfClock(chosen);
    if (before !== undefined && known === undefined) this.#refuseSuccession(before, chosen);
    if (this.#isReady(chosen)) return chosen;
    // What was published before goes on, as it would have without the restart.
    if (known !== undefined && known !== chosen && isProven(prover, known)) return known;
    throw (
      prover.proofOf(chosen.record.keyId).failure ??
      new KmsError("HSM_UNAVAILABLE", `KEK ${chosen.record.keyId} has not passed its self-test yet`)
    );
  }

  /** @throws KmsError */
  #scheduled(): Generation {
    const { keyring, unread } = this.#options;
    try {
      return activeAt(keyring.schedule, keyring.policy, this.#asOf());
    } catch (error) {
      // A token that has not been read may hold it.
      throw KmsError.from(error).code === "KEY_MISSING" ? (unread() ?? error) : error;
    }
  }

  #refuseSuccession(before: Published, due: Generation): void {
    try {
      refuseSuccession(before, due);
    } catch (error) {
      const unread = this.#options.unread();
      if (unread === undefined) throw error;
      throw new KmsError(
        "HSM_UNAVAILABLE",
        `the active KEK ${before.keyId} is on no token that could be read; ${unread.message}`,
        error,
      );
    }
  }

  /** A KEK that was cancelled just before its instant is not used because it had been seen earlier. */
  #asOf(): number {
    const { now, checkedAt } = this.#options;
    return Math.min(now(), checkedAt() ?? Infinity);
  }

  #warnOfClock(published: Generation): void {
    if (this.#clockWarned) return;
    this.#clockWarned = true;
    this.#options.log.warn(
      { keyId: published.record.keyId, now: new Date(this.#options.now()).toISOString() },
      "this node's clock is behind the keyring; the later KEK stays active",
    );
  }

  /**
   * A use that the node may forget would later count as none. So a switch that cannot be recorded is not made while an
   * earlier KEK can still be used.
   */
  #publish(generation: Generation): Generation {
    const before = this.lastPublished;
    const { keyId, label } = generation.record;
    if (this.#published?.record.keyId === keyId) this.#unrecorded = undefined;
    else {
      try {
        this.#options.memory.save({
          keyId,
          activation: Number.isFinite(generation.activation) ? generation.activation : null,
        });
        this.#unrecorded = undefined;
      } catch (error) {
        const kept = this.#withoutRecord(generation, before, error);
        if (kept !== generation) return kept;
      }
      this.#options.log.info({ keyId, label, before: this.#published?.record.keyId }, "active KEK");
    }
    this.#published = generation;
    return generation;
  }

  /** Returns the generation to publish when the state directory cannot be written. */
  #withoutRecord(wanted: Generation, before: Generation | undefined, error: unknown): Generation {
    const { keyId } = wanted.record;
    const reason = (error as NodeJS.ErrnoException).code ?? "it cannot be written";
    const text = `KEK ${keyId} is due but not activated: the state directory cannot record it (${reason})`;
    if (this.#unrecorded?.message !== text) this.#options.log.warn({ keyId, err: error }, text);
    if (before === undefined || before.record.keyId === keyId || !isProven(this.#options.prover, before)) {
      return wanted;
    }
    this.#unrecorded = new KmsError("KEY_UNSUITABLE", text, error);
    this.#published = before;
    return before;
  }
}

function isProven(prover: Prover, { record }: Generation): boolean {
  const { mechanism, failure } = prover.proofOf(record.keyId);
  return mechanism !== undefined && failure === undefined;
}

function isLater(a: Generation, b: Generation): boolean {
  if (a.activation !== b.activation) return a.activation > b.activation;
  return a.record.keyId > b.record.keyId;
}

/**
 * The KEK published before is gone. A key that became active at its very instant, but is another key, came from
 * a wrong clone or a wrong token: what it encrypts, the other nodes cannot decrypt. A key of an earlier instant
 * has been superseded.
 */
function refuseSuccession(before: Published, due: Generation): void {
  if (before.activation === null || before.activation < due.activation) return;
  if (before.activation > due.activation) {
    throw new KmsError(
      "KEY_MISSING",
      `the active KEK ${before.keyId} is gone from the token, and "${due.record.label}" is an earlier one; restore it, ` +
        "or rotate forward to a new one (stateDir holds which was active)",
    );
  }
  throw new KmsError(
    "KEY_UNSUITABLE",
    `"${due.record.label}" is key_id ${due.record.keyId} here, but this node has published ${before.keyId} for it; ` +
      "is this another token, or a failed clone? (stateDir holds the earlier one)",
  );
}

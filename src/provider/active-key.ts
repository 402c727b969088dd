// Decides which KEK Encrypt uses. `choose` is pure: it returns what Status may publish now. `publish` makes the switch,
// and only a Status answer calls it, so that no Encrypt answers with a different key_id than the last Status did. A
// generation is chosen only if the token still held it after its activation and it has passed its self-test. The choice
// never returns to an earlier generation, whatever the clock says: A, B, A would confuse kube-apiserver's staleness
// check.
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import { permittedBy, refusedAfter, type ActivationGate } from "./activation-gate.js";
import { activeAt, findByKeyId, isLater, type Generation, type Schedule } from "./generations.js";
import type { PublishedMemory } from "./key-memory.js";
import type { Keyring } from "./keyring.js";
import type { Prover } from "./prover.js";
import { PublicationRecord } from "./publication-record.js";
import { refuseSuccession } from "./succession.js";

/** State of the HSM and of this node's checks, as far as a switch depends on it. */
export interface SwitchHealth {
  /** During an outage no switch is made: the first Encrypt under the new KEK would fail. */
  readonly isOutage: boolean;
  /** Why KEKs may be missing from the keyring although it was read; undefined if all tokens have been read. */
  readonly unread: KmsError | undefined;
  /** When the last complete check of the token began, in ms since the epoch; undefined before the first. */
  readonly checkedAt: number | undefined;
}

/** What the choice of the active KEK depends on. */
export interface ActiveKeyOptions {
  readonly keyring: Keyring;
  readonly prover: Prover;
  readonly memory: PublishedMemory;
  readonly health: SwitchHealth;
  /** Undefined if every generation may become active. */
  readonly gate?: ActivationGate | undefined;
  /** Wall clock, ms since the epoch. */
  readonly now: () => number;
  readonly log: Log;
}

/** A generation that Status may publish, and why a later one is not activated. */
export interface UsableChoice {
  readonly generation: Generation;
  readonly heldBack: KmsError | undefined;
}

/** A generation that may be published, or why there is none. */
export type Choice =
  | UsableChoice
  | {
      readonly generation: undefined;
      readonly heldBack: KmsError | undefined;
      /** Why no generation can be published. */
      readonly refusal: KmsError;
    };

/** Decides which KEK Encrypt uses, and makes the switch. */
export class ActiveKey {
  readonly #options: ActiveKeyOptions;
  #published: Generation | undefined;
  /** The due generation that `publish` could not record, and why. */
  #unrecorded: { readonly keyId: string; readonly reason: KmsError } | undefined;
  readonly #record: PublicationRecord;
  /** Whether the published generation is recorded: the first one is published even if it cannot be. */
  #isRecorded = true;
  #hasWarnedOfClock = false;

  constructor(options: ActiveKeyOptions) {
    this.#options = options;
    this.#record = new PublicationRecord(options.memory, options.log);
  }

  /** The generation that Encrypt uses; undefined before the first Status answer. */
  get published(): Generation | undefined {
    return this.#published;
  }

  /**
   * The generation published last, possibly before a restart: API servers keep using it until they ask for Status
   * again. Undefined if the token does not hold it.
   */
  get lastPublished(): Generation | undefined {
    return this.#published ?? this.#remembered();
  }

  /** Returns what Status may publish now, and changes nothing. */
  choose(): Choice {
    const choice = this.#decide();
    const unrecorded = this.#unrecorded;
    if (unrecorded === undefined || unrecorded.keyId !== choice.generation?.record.keyId) return choice;
    return { ...choice, heldBack: unrecorded.reason };
  }

  /**
   * Publishes the chosen generation, which Encrypt uses from then on. If a switch cannot be recorded, the previous
   * generation stays published as long as it works: otherwise the node could forget that it used the new KEK, and later
   * report that it never did.
   * @throws KmsError KEY_MISSING, KEY_AMBIGUOUS, KEY_UNSUITABLE or HSM_UNAVAILABLE if no generation can be used
   */
  publish(): UsableChoice {
    const choice = this.#decide();
    if (choice.generation === undefined) throw choice.refusal;
    const { generation } = choice;
    if (generation.activation > this.#asOf()) this.#warnOfClock(generation);
    if (generation.record.keyId !== this.#published?.record.keyId) return this.#switchTo(choice);
    // A first publication that could not be recorded is recorded as soon as possible.
    if (!this.#isRecorded) this.#isRecorded = this.#record.save(generation) === undefined;
    this.#unrecorded = undefined;
    this.#published = generation;
    return choice;
  }

  #switchTo(choice: UsableChoice): UsableChoice {
    const { keyId, label } = choice.generation.record;
    const previous = this.lastPublished;
    const reason = this.#record.save(choice.generation);
    if (reason !== undefined && previous !== undefined && previous.record.keyId !== keyId) {
      if (isProven(this.#options.prover, previous)) {
        this.#unrecorded = { keyId, reason };
        this.#published = previous;
        return { generation: previous, heldBack: reason };
      }
    }
    this.#unrecorded = undefined;
    this.#isRecorded = reason === undefined;
    this.#options.log.info({ keyId, label, before: this.#published?.record.keyId }, "active KEK");
    this.#published = choice.generation;
    return choice;
  }

  #decide(): Choice {
    try {
      return this.#published === undefined ? this.#first() : this.#next(this.#published);
    } catch (error) {
      return { generation: undefined, heldBack: undefined, refusal: KmsError.from(error) };
    }
  }

  /** Returns a later generation if one is due and proven; otherwise the published one, if the token still holds it. */
  #next(published: Generation): Choice {
    const due = this.#dueAfter(published);
    if (due !== undefined && isProven(this.#options.prover, due)) {
      return { generation: due, heldBack: this.#refusedAfter(due) };
    }
    const heldBack = due === undefined ? this.#refusedAfter(published) : this.#whyNotActivated(due);
    const { keyId } = published.record;
    const generation = findByKeyId(this.#options.keyring.schedule, keyId);
    if (generation !== undefined) return { generation, heldBack };
    const refusal = new KmsError(
      "KEY_MISSING",
      `the active KEK ${keyId} is gone from the token; restore it, or rotate forward to a new one`,
    );
    return { generation: undefined, heldBack, refusal };
  }

  #dueAfter(published: Generation): Generation | undefined {
    const { keyring, health } = this.#options;
    if (health.isOutage || published.activation > this.#asOf()) return undefined;
    try {
      const due = activeAt(this.#permitted(), keyring.policy, this.#asOf());
      return due.record.keyId !== published.record.keyId && isLater(due, published) ? due : undefined;
    } catch {
      // The schedule names no active KEK: all that matters is whether the published one is still on the token.
      return undefined;
    }
  }

  /**
   * At the start, returns the generation that the schedule names, unless this node has already published a later one.
   * @throws KmsError as `publish`
   */
  #first(): Choice {
    const { keyring, memory, prover, health } = this.#options;
    const before = memory.load();
    const known = before && findByKeyId(keyring.schedule, before.keyId);
    const isClockBehind = known !== undefined && known.activation > this.#asOf();
    const generation = isClockBehind ? known : this.#scheduled();
    if (before !== undefined && known === undefined) refuseSuccession(before, generation, health.unread);
    if (isProven(prover, generation)) return { generation, heldBack: this.#refusedAfter(generation) };
    const heldBack = this.#whyNotActivated(generation);
    // The KEK that was published before the restart stays in use, as it would have without a restart.
    if (known !== undefined && known !== generation && isProven(prover, known)) {
      return { generation: known, heldBack };
    }
    const { keyId } = generation.record;
    const untried = new KmsError("HSM_UNAVAILABLE", `KEK ${keyId} has not passed its self-test yet`);
    const refusal = prover.proofOf(keyId).failure ?? untried;
    return { generation: undefined, heldBack, refusal };
  }

  #scheduled(): Generation {
    const { keyring, health } = this.#options;
    try {
      return activeAt(this.#permitted(), keyring.policy, this.#asOf());
    } catch (error) {
      const refused = this.#refusedAfter(undefined);
      if (refused !== undefined) throw refused;
      // A token that has not been read may hold it.
      throw KmsError.from(error).code === "KEY_MISSING" ? (health.unread ?? error) : error;
    }
  }

  /** Returns why a generation must not become active, whatever its instant; undefined if it may or no gate is set. */
  refusalOf(generation: Generation): string | undefined {
    return this.#options.gate?.refusalOf(generation);
  }

  #permitted(): Schedule {
    const { keyring, gate, memory } = this.#options;
    if (gate === undefined) return keyring.schedule;
    return permittedBy(gate, keyring.schedule, this.#published?.record.keyId ?? memory.load()?.keyId);
  }

  #refusedAfter(chosen: Generation | undefined): KmsError | undefined {
    const { keyring, gate } = this.#options;
    return gate && refusedAfter(gate, chosen, keyring, this.#asOf());
  }

  #whyNotActivated({ record: { keyId } }: Generation): KmsError {
    const why = this.#options.prover.proofOf(keyId).failure?.message ?? "it has not passed its self-test yet";
    return new KmsError("KEY_UNSUITABLE", `KEK ${keyId} is due but not activated: ${why}`);
  }

  #remembered(): Generation | undefined {
    const last = this.#options.memory.load();
    return last && findByKeyId(this.#options.keyring.schedule, last.keyId);
  }

  /**
   * Returns the instant for which the schedule is evaluated, never later than the beginning of the last check: before
   * that, the token may have been read while it still held a KEK that has since been destroyed.
   */
  #asOf(): number {
    const { now, health } = this.#options;
    return Math.min(now(), health.checkedAt ?? Infinity);
  }

  #warnOfClock({ record: { keyId } }: Generation): void {
    if (this.#hasWarnedOfClock) return;
    this.#hasWarnedOfClock = true;
    this.#options.log.warn(
      { keyId, now: new Date(this.#options.now()).toISOString() },
      "this node's clock is behind the keyring; the later KEK stays active",
    );
  }
}

function isProven(prover: Prover, { record }: Generation): boolean {
  const { mechanism, failure } = prover.proofOf(record.keyId);
  return mechanism !== undefined && failure === undefined;
}

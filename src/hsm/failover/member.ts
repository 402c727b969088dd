// One token of several, and what it is believed to hold. A library whose token went away may go on showing it, empty, and
// never find its keys again: what it no longer shows is believed only when a library loaded since then agrees. Until
// then the last good reading stands, and the token counts as away.
import { KmsError } from "../../errors.js";
import type { Reading } from "./clones.js";
import type { Hsm, HsmState, KekRecord } from "../port.js";

/** Between two attempts at a reading while the token is doubted, in ms. */
const DOUBTED_INTERVAL_MS = 1_000;

export interface MemberOptions {
  /** Names the token in messages. */
  readonly name: string;
  readonly hsm: Hsm;
}

export class Member {
  readonly name: string;
  readonly #hsm: Hsm;
  #reading: Reading;
  #keyIds: ReadonlySet<string> = new Set();
  /** Why what it shows is not believed; undefined when it is. */
  #doubt: KmsError | undefined;
  /** A reading that has not ended yet; a slow token is not given a second one. */
  #running: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** When it began to be well, by a monotonic clock; undefined while it is not. */
  wellSince: number | undefined;

  constructor({ name, hsm }: MemberOptions) {
    this.name = name;
    this.#hsm = hsm;
  }

  /** What it showed when it was last believed; undefined before the first time. */
  get reading(): Reading {
    return this.#reading;
  }

  holds(keyId: string): boolean {
    return this.#keyIds.has(keyId);
  }

  get state(): HsmState {
    const state = this.#hsm.state();
    return state.up && this.#doubt !== undefined ? { up: false, reason: this.#doubt } : state;
  }

  /** Reads the token, and again by a freshly loaded library where it shows less than before. @throws KmsError */
  read(): Promise<void> {
    return this.#share(async () => {
      const records = await this.#hsm.listKeks();
      if (this.#lacksKeys(records)) await this.#confirm();
      else this.#believe(records);
    });
  }

  /** Reads the token by a freshly loaded library. @throws KmsError */
  readReloaded(): Promise<void> {
    return this.#share(async () => {
      this.#believe(await this.#hsm.listKeksReloaded());
    });
  }

  /**
   * Makes one operation under a KEK. Where the token does not find a KEK that it held, a freshly loaded library is asked.
   * @throws KmsError; HSM_UNAVAILABLE in place of KEY_MISSING until one has answered
   */
  async use<T>(keyId: string, operation: (hsm: Hsm) => Promise<T>): Promise<T> {
    try {
      return await operation(this.#hsm);
    } catch (thrown) {
      const error = KmsError.from(thrown);
      if (error.code !== "KEY_MISSING" || !this.holds(keyId)) throw error;
      // One that is doubted already is looked into in the background.
      const confirming = this.#doubt === undefined ? this.#share(() => this.#confirm()) : this.#running;
      const doubt = this.#doubtIt();
      await confirming?.catch(() => undefined);
      if (this.#isDoubted()) throw doubt;
      if (!this.holds(keyId)) throw error;
    }
    return operation(this.#hsm);
  }

  async #confirm(): Promise<void> {
    this.#doubtIt();
    try {
      this.#believe(await this.#hsm.listKeksReloaded());
    } catch (error) {
      if (KmsError.from(error).code !== "STOPPING") this.#readLater();
      throw error;
    }
  }

  /** A field would be narrowed by the compiler across an await. */
  #isDoubted(): boolean {
    return this.#doubt !== undefined;
  }

  #doubtIt(): KmsError {
    this.#doubt ??= new KmsError(
      "HSM_UNAVAILABLE",
      `token ${this.name} no longer shows KEKs that it held; this counts only once a freshly loaded library confirms it; ` +
        "check that the HSM is reachable",
    );
    return this.#doubt;
  }

  #believe(records: readonly KekRecord[]): void {
    this.#reading = records;
    this.#keyIds = new Set(records.flatMap(namesOf));
    this.#doubt = undefined;
    clearTimeout(this.#timer);
  }

  #lacksKeys(records: readonly KekRecord[]): boolean {
    const shown = new Set(records.flatMap(namesOf));
    return this.#reading?.some((record) => !namesOf(record).some((name) => shown.has(name))) ?? false;
  }

  /** Its hosts are replaced as soon as it can be read, whenever the next round of readings is. */
  #readLater(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.read().catch(() => undefined);
    }, DOUBTED_INTERVAL_MS).unref();
  }

  #share(reading: () => Promise<void>): Promise<void> {
    this.#running ??= reading().finally(() => (this.#running = undefined));
    return this.#running;
  }
}

function namesOf({ keyId, aliases }: KekRecord): readonly string[] {
  return [keyId, ...aliases];
}

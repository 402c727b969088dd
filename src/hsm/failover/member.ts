// One token of a failover set, and the KEKs that it holds. After a token was away, its library may keep listing it as
// empty and never find its keys again. So a missing KEK counts as missing only after a freshly loaded library confirms
// it; until then the previous reading stays valid, and the token counts as away.
import { setTimeout as sleep } from "node:timers/promises";
import { KmsError } from "../../errors.js";
import type { Reading } from "./clones.js";
import type { KekMemory } from "./kek-memory.js";
import { meansHsmAway } from "../away.js";
import { onlyMayBeNamed } from "../key-id.js";
import { PROOF_CALLER, type Hsm, type HsmState, type KekRecord } from "../port.js";

/** Interval of readings while a missing KEK is not confirmed, in ms. */
const DOUBTED_INTERVAL_MS = 1_000;

/** A token of a failover set and its name in messages. */
export interface MemberOptions {
  /** Names the token in messages. */
  readonly name: string;
  readonly hsm: Hsm;
}

/** Part of the request timeout for which a request waits until a missing KEK is confirmed. */
const CONFIRMING_PART = 0.5;

/** Tracks which KEKs one token of a failover set holds, and whether the token is available. */
export class Member {
  readonly name: string;
  readonly #hsm: Hsm;
  readonly #requestTimeoutMs: number;
  #reading: Reading;
  #keyIds: ReadonlySet<string> = new Set();
  /** For KEKs under which it has decrypted although it shows them under another key_id: that key_id. */
  readonly #proven = new Map<string, string>();
  /** Why its latest reading is not believed; undefined if it is. */
  #doubt: KmsError | undefined;
  /** The reading in progress, which later callers share. */
  #running: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** When it became available, by performance.now(); undefined while it is not. */
  wellSince: number | undefined;

  constructor({ name, hsm }: MemberOptions, requestTimeoutMs: number) {
    this.name = name;
    this.#hsm = hsm;
    this.#requestTimeoutMs = requestTimeoutMs;
  }

  /** The last reading that was believed; undefined before the first. */
  get reading(): Reading {
    return this.#reading;
  }

  holds(keyId: string): boolean {
    return this.#keyIds.has(keyId);
  }

  /** Returns whether the token holds a KEK, under this key_id or, as it has proven, under another. */
  decrypts(keyId: string): boolean {
    return this.holds(keyId) || this.isProven(keyId);
  }

  /** Returns whether the token has decrypted the canary of a KEK that it shows under another key_id. */
  isProven(keyId: string): boolean {
    const similar = this.similarTo(keyId)?.keyId;
    return similar !== undefined && this.#proven.get(keyId) === similar;
  }

  /**
   * Finds out whether the token holds a KEK whose key_id there is another, by a fingerprint that cannot be compared:
   * only the KEK decrypts its canary. Never throws.
   */
  async tryKek(keyId: string, memory: KekMemory): Promise<void> {
    const similar = this.similarTo(keyId)?.keyId;
    const question = memory.questionOf(keyId);
    if (similar === undefined || question === undefined) return;
    try {
      const opened = await this.#hsm.decrypt(question, PROOF_CALLER);
      if (memory.isAnswer(keyId, opened)) this.#proven.set(keyId, similar);
      else this.#proven.delete(keyId);
      opened.fill(0);
    } catch (error) {
      // A token that is away says nothing about its keys.
      if (!meansHsmAway(KmsError.from(error))) this.#proven.delete(keyId);
    }
  }

  /** Has the token encrypt the canary of a KEK that it holds, unless there is one. Never throws. */
  async addCanary(keyId: string, mechanism: number, memory: KekMemory): Promise<void> {
    if (!this.holds(keyId) || !this.state.up) return;
    await memory
      .addCanary(keyId, mechanism, (request) => this.#hsm.encrypt(request, PROOF_CALLER))
      .catch(() => undefined);
  }

  /** Returns the token's only KEK that may be the one a key_id names, which the token does not hold. */
  similarTo(keyId: string): KekRecord | undefined {
    if (this.holds(keyId)) return undefined;
    const keks = this.#reading?.map((record) => ({ record })) ?? [];
    return onlyMayBeNamed(keks, keyId)?.record;
  }

  get state(): HsmState {
    const state = this.#hsm.state();
    return state.up && this.#doubt !== undefined ? { up: false, reason: this.#doubt } : state;
  }

  /** Reads the token, and again with a freshly loaded library if a KEK is missing. @throws KmsError */
  read(maxAgeMs?: number): Promise<void> {
    return this.#share(async () => {
      const records = await this.#hsm.listKeks(maxAgeMs);
      if (this.#lacksKeys(records)) await this.#confirm();
      else this.#believe(records);
    });
  }

  /** Reads the token with a freshly loaded library and believes the result. @throws KmsError */
  readReloaded(maxAgeMs?: number): Promise<void> {
    return this.#share(async () => {
      this.#believe(await this.#hsm.listKeksReloaded(maxAgeMs));
    });
  }

  /**
   * Performs one operation under a KEK. If the token no longer finds a KEK that it held, reads the token with a freshly
   * loaded library.
   * @throws KmsError; HSM_UNAVAILABLE instead of KEY_MISSING until that reading has succeeded
   */
  async use<T>(keyId: string, operation: (hsm: Hsm) => Promise<T>): Promise<T> {
    try {
      return await operation(this.#hsm);
    } catch (thrown) {
      const error = KmsError.from(thrown);
      if (error.code !== "KEY_MISSING" || !this.holds(keyId)) throw error;
      // If the token is in doubt already, a background reading will follow anyway.
      const confirming = this.#doubt === undefined ? this.#share(() => this.#confirm()) : this.#running;
      const doubt = this.#doubtIt();
      const timeout = sleep(CONFIRMING_PART * this.#requestTimeoutMs, undefined, { ref: false });
      await Promise.race([confirming, timeout]).catch(() => undefined);
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

  /** A method, since the compiler would keep a field's narrowed type across an await. */
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

  /** Reads the token again soon, without waiting for the next background check. */
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

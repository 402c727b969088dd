// Combines several tokens that hold clones of the KEK into one HSM. The preferred token serves; if it fails or is late,
// the next one is asked within the same request. The plugin returns to a preferred token only after a while, so that a
// token that fails repeatedly does not cause repeated switching.
import { KmsError } from "../../errors.js";
import type { Log } from "../../log.js";
import { nextTokenAfterMs } from "../hedging.js";
import { hasKeyId, onlyMayBeNamed } from "../key-id.js";
import { CloneProofs } from "./clone-proofs.js";
import { Clones } from "./clones.js";
import { KekMemory, NO_KEK_MEMORY, type KekMemoryStore } from "./kek-memory.js";
import type { MechanismChoice } from "../mechanisms.js";
import { Member, type MemberOptions } from "./member.js";
import type { Caller, Hsm, HsmState, CryptRequest, KekRecord, ProbeResult } from "../port.js";
import { hedge } from "./hedged-request.js";
import { inTurn, isWorthAnotherToken, type Asked } from "./in-turn.js";

/** The tokens of a failover set, and the time limit for one request over all of them. */
export interface FailoverOptions {
  /** The tokens in order of preference; at least one. */
  readonly members: readonly MemberOptions[];
  readonly requestTimeoutMs: number;
  /** What a restart must not forget of the KEKs; nothing is stored if omitted. */
  readonly memory?: KekMemoryStore;
  readonly log: Log;
}

/** Time for which a preferred token must have been available before it serves again, in ms. */
const RETURN_AFTER_MS = 60_000;
/** Number of request timeouts for which a reading waits for a slow token once another token has been read. */
const SLOW_READING = 2;

/** Implements the HSM port over several tokens that hold the same KEKs. */
export class FailoverHsm implements Hsm {
  readonly #members: readonly Member[];
  readonly #options: FailoverOptions;
  readonly #clones: Clones;
  readonly #memory: KekMemory;
  readonly #proofs: CloneProofs;
  /** The KEKs of the last reading, without keys that only look like clones. */
  #keks: readonly { readonly record: KekRecord }[] = [];
  /** Whether a token holds a key that only looks like a clone. */
  #hasRefused = false;
  #serving = 0;

  constructor(options: FailoverOptions) {
    this.#options = options;
    this.#members = options.members.map((member) => new Member(member, options.requestTimeoutMs));
    const names = options.members.map(({ name }) => name);
    this.#memory = new KekMemory(options.memory ?? NO_KEK_MEMORY, names, options.log);
    this.#clones = new Clones(names, options.log, this.#memory);
    this.#proofs = new CloneProofs(this.#members, this.#memory);
  }

  encrypt(request: CryptRequest, caller: Caller): Promise<Buffer> {
    const { keyId } = request;
    const members = this.#order((member) => member.holds(keyId));
    return this.#crypt({ keyId, members, caller }, (hsm, asker) => hsm.encrypt(request, asker));
  }

  async decrypt(request: CryptRequest, caller: Caller): Promise<Buffer> {
    const { keyId, members } = this.#decrypters(request.keyId);
    const plaintext = await this.#crypt({ keyId, members, caller }, (hsm, asker) =>
      hsm.decrypt(request, asker),
    );
    if (caller.isProof === true) void this.#proofs.proveAgain(request);
    return plaintext;
  }

  /**
   * Returns whom to ask for what is stored under a key_id, and the key_id that the KEK has now.
   * @throws KmsError if only a key has it that is refused, or that may never have had it
   */
  #decrypters(keyId: string): Asked {
    const asked = (name: string): Asked => ({
      keyId: name,
      members: this.#order((member) => member.decrypts(name)),
    });
    if (this.#keks.some(({ record }) => hasKeyId(record, keyId))) return asked(keyId);
    const present = onlyMayBeNamed(this.#keks, keyId)?.record.keyId;
    if (present === undefined && !this.#hasRefused) return asked(keyId);
    const proven = this.#members.filter((member) => member.isProven(keyId));
    if (present !== undefined && proven.length > 0) return { keyId: present, members: proven };
    // The token that has not been read may show the KEK that has this key_id.
    const unread = this.#unread();
    if (unread !== undefined) throw unread;
    if (present !== undefined && this.#memory.questionOf(keyId) === undefined) return asked(present);
    throw new KmsError("KEY_UNKNOWN", `no key has been proven to be the KEK ${keyId}`);
  }

  /** Reads all tokens and returns the KEKs that they hold together, without keys that only look like clones. */
  listKeks(maxAgeMs?: number): Promise<readonly KekRecord[]> {
    return this.#merge((member) => member.read(maxAgeMs));
  }

  listKeksReloaded(maxAgeMs?: number): Promise<readonly KekRecord[]> {
    return this.#merge((member) => member.readReloaded(maxAgeMs));
  }

  /** @throws KmsError if no token can be read: the error of the most preferred one */
  async #merge(read: (member: Member) => Promise<void>): Promise<readonly KekRecord[]> {
    const failure = await this.#enough(this.#members.map(read));
    this.#choose();
    if (failure !== undefined) throw failure;
    await this.#proofs.proveUnshown();
    const found = new Map<string, KekRecord>();
    const add = (record: KekRecord): void => {
      const name = `${record.keyId} ${record.label}`;
      if (!found.has(name)) found.set(name, record);
    };
    const genuine = this.#clones.genuine(this.#members.map(({ reading }) => reading));
    for (const record of genuine.flat()) if (record !== undefined) add(record);
    for (const record of this.#proofs.provenClones([...found.values()])) add(record);
    this.#memory.save();
    const records = [...found.values()];
    this.#keks = records.map((record) => ({ record }));
    this.#hasRefused = genuine.some((kept, rank) => kept?.length !== this.#members[rank]?.reading?.length);
    return records;
  }

  /** Waits for all readings, but not for slow ones once another has succeeded. Returns the error if none succeeds. */
  async #enough(readings: readonly Promise<void>[]): Promise<KmsError | undefined> {
    const all = Promise.allSettled(readings);
    const any = Promise.any(readings);
    any.catch(() => undefined);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, SLOW_READING * this.#options.requestTimeoutMs);
    });
    await Promise.race([all, late.then(() => any.catch(() => undefined))]);
    clearTimeout(timer);
    return any.then(
      () => undefined,
      async () => {
        const failed = (await all).find((reading) => reading.status === "rejected");
        return KmsError.from(failed?.reason);
      },
    );
  }

  probe(keyId: string, choice: MechanismChoice | "auto"): Promise<readonly ProbeResult[]> {
    const members = this.#order((member) => member.holds(keyId));
    return inTurn({ keyId, members }, (hsm) => hsm.probe(keyId, choice));
  }

  state(): HsmState {
    const states = this.#members.map(({ state }) => state);
    const state = states.find(({ up }) => up) ?? states[0] ?? { up: false, reason: undefined };
    const unread = this.#unread();
    return state.up && unread !== undefined ? { ...state, unread } : state;
  }

  #unread(): KmsError | undefined {
    const member = this.#members.find(({ reading }) => reading === undefined);
    if (member === undefined) return undefined;
    const why = member.state.up ? "" : (member.state.reason?.message ?? "");
    return new KmsError(
      "HSM_UNAVAILABLE",
      `token ${member.name} has not been read since the start${why === "" ? "" : `: ${why}`}`,
    );
  }

  /**
   * Stops using a failing token at once, and returns to a preferred one only after it has been available for a while.
   */
  #choose(): void {
    const now = performance.now();
    for (const member of this.#members) {
      if (!member.state.up) member.wellSince = undefined;
      else member.wellSince ??= now;
    }
    const isWell = (member: Member | undefined): boolean => member?.wellSince !== undefined;
    const isSettled = (member: Member): boolean =>
      member.wellSince !== undefined && now - member.wellSince >= RETURN_AFTER_MS;
    const preferred = this.#members.findIndex((member, rank) =>
      rank < this.#serving ? isSettled(member) : isWell(member),
    );
    if (preferred >= 0 && (preferred < this.#serving || !isWell(this.#members[this.#serving]))) {
      this.#serve(preferred);
    }
  }

  #serve(rank: number): void {
    if (rank === this.#serving) return;
    this.#options.log.warn(
      { from: this.#members[this.#serving]?.name, to: this.#members[rank]?.name },
      "another token serves now",
    );
    this.#serving = rank;
  }

  /**
   * Returns the tokens that hold a key, or all tokens if none does: those that are available first, the serving one
   * before others, then by preference.
   */
  #order(holds: (member: Member) => boolean): Member[] {
    const rankOf = (member: Member): number =>
      (member.state.up ? 0 : 2) + (member === this.#members[this.#serving] ? 0 : 1);
    const all = [...this.#members].sort((one, other) => rankOf(one) - rankOf(other));
    const holders = all.filter(holds);
    return holders.length > 0 ? holders : all;
  }

  /** Returns the first answer. Asks the serving token, and the next one if that fails or is late. */
  async #crypt(
    { keyId, members, caller }: Asked & { readonly caller: Caller },
    use: (hsm: Hsm, caller: Caller) => Promise<Buffer>,
  ): Promise<Buffer> {
    // A background call waits behind requests, so its delay says nothing about a token.
    if (caller.isBackground === true) return inTurn({ keyId, members }, (hsm) => use(hsm, caller));
    const [only] = members;
    if (only === undefined) throw new KmsError("HSM_UNAVAILABLE", "no token is configured");
    if (members.length === 1) return only.use(keyId, (hsm) => use(hsm, caller));
    const { requestTimeoutMs } = this.#options;
    const age = caller.startedAt === undefined ? 0 : performance.now() - caller.startedAt;
    return hedge({
      asks: members.map((member) => (asker) => member.use(keyId, (hsm) => use(hsm, asker))),
      caller,
      lateMs: nextTokenAfterMs(requestTimeoutMs),
      limitMs: Math.max(0, requestTimeoutMs - age),
      isFinal: (error) => !isWorthAnotherToken(error),
      onPassedOver: (asked) => {
        const member = members[asked];
        if (member !== undefined) this.#leave(member);
      },
    });
  }

  /** Makes the next token serve if this one failed a request or was slower than a token asked after it. */
  #leave(member: Member): void {
    member.wellSince = undefined;
    const next = this.#members.findIndex((other) => other !== member && other.state.up);
    if (this.#members[this.#serving] === member && next >= 0) this.#serve(next);
  }
}

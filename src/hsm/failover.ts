// Several tokens that hold clones of the KEK, as one HSM: the preferred one serves; when it fails or is late
// the next one does, within the same request. Coming back is damped, so that a flapping token does not flap
// the plugin.
import { KmsError, type ErrorCode } from "../errors.js";
import type { Log } from "../log.js";
import { Clones } from "./clones.js";
import type { MechanismChoice } from "./mechanisms.js";
import type { Caller, Hsm, HsmState } from "./port.js";
import { relay } from "./relay.js";
import type { CryptRequest, KekRecord, ProbeResult } from "./wire.js";

/** One token of several. */
export interface Member {
  /** Names the token in messages. */
  readonly name: string;
  readonly hsm: Hsm;
}

export interface FailoverOptions {
  /** In order of preference, at least one. */
  readonly members: readonly Member[];
  readonly requestTimeoutMs: number;
  readonly log: Log;
}

/** A preferred token serves again when it has been well for this long, in ms. */
const RETURN_AFTER_MS = 60_000;
/** The next token is asked too when an answer is late by this part of the request timeout. */
const LATE_PART = 0.5;

/** Errors of a token that another token may not have. */
const ELSEWHERE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "HSM_UNAVAILABLE",
  "SESSION_LOST",
  "DEADLINE",
  "OVERLOADED",
  "PIN_REFUSED",
  "PIN_UNREADABLE",
  "TOKEN_NOT_FOUND",
  "MODULE_UNUSABLE",
  "KEY_MISSING",
]);

interface MemberView {
  readonly member: Member;
  keyIds: ReadonlySet<string>;
  /** When it began to be well, by a monotonic clock; undefined while it is not. */
  wellSince: number | undefined;
}

export class FailoverHsm implements Hsm {
  readonly #views: readonly MemberView[];
  readonly #options: FailoverOptions;
  readonly #clones: Clones;
  #serving = 0;

  constructor(options: FailoverOptions) {
    this.#options = options;
    this.#views = options.members.map((member) => ({ member, keyIds: new Set(), wellSince: undefined }));
    this.#clones = new Clones(
      options.members.map(({ name }) => name),
      options.log,
    );
  }

  encrypt(request: CryptRequest, caller: Caller): Promise<Buffer> {
    return this.#crypt(request.keyId, (hsm) => hsm.encrypt(request, caller));
  }

  decrypt(request: CryptRequest, caller: Caller): Promise<Buffer> {
    return this.#crypt(request.keyId, (hsm) => hsm.decrypt(request, caller));
  }

  /** What the reachable tokens hold together, without keys that only claim to be clones. */
  listKeks(): Promise<readonly KekRecord[]> {
    return this.#merge((hsm) => hsm.listKeks());
  }

  listKeksAnew(): Promise<readonly KekRecord[]> {
    return this.#merge((hsm) => hsm.listKeksAnew());
  }

  async #merge(read: (hsm: Hsm) => Promise<readonly KekRecord[]>): Promise<readonly KekRecord[]> {
    const readings = await Promise.allSettled(this.#views.map(({ member }) => read(member.hsm)));
    const found = new Map<string, KekRecord>();
    const genuine = this.#clones.genuine(
      readings.map((reading) => (reading.status === "fulfilled" ? reading.value : undefined)),
    );
    genuine.forEach((records, rank) => {
      const view = this.#views[rank];
      if (view === undefined || records === undefined) return;
      view.keyIds = new Set(records.flatMap((record) => [record.keyId, ...record.aliases]));
      for (const record of records) {
        const name = `${record.keyId} ${record.label}`;
        if (!found.has(name)) found.set(name, record);
      }
    });
    this.#choose();
    const failed = readings.find((reading) => reading.status === "rejected");
    if (failed !== undefined && readings.every((reading) => reading.status === "rejected"))
      throw KmsError.from(failed.reason);
    return [...found.values()];
  }

  probe(keyId: string, choice: MechanismChoice | "auto"): Promise<readonly ProbeResult[]> {
    return this.#inTurn(this.#order(keyId), (hsm) => hsm.probe(keyId, choice));
  }

  state(): HsmState {
    const states = this.#views.map(({ member }) => member.hsm.state());
    return states.find((state) => state.up) ?? states[0] ?? { up: false, reason: undefined };
  }

  /** Moves away from a token at once, and back to a preferred one only when it has been well for a while. */
  #choose(): void {
    const now = performance.now();
    for (const view of this.#views) {
      if (!view.member.hsm.state().up) view.wellSince = undefined;
      else view.wellSince ??= now;
    }
    const isWell = (view: MemberView | undefined): boolean => view?.wellSince !== undefined;
    const isSettled = (view: MemberView): boolean =>
      view.wellSince !== undefined && now - view.wellSince >= RETURN_AFTER_MS;
    const preferred = this.#views.findIndex((view, rank) =>
      rank < this.#serving ? isSettled(view) : isWell(view),
    );
    if (preferred >= 0 && (preferred < this.#serving || !isWell(this.#views[this.#serving])))
      this.#serve(preferred);
  }

  #serve(rank: number): void {
    if (rank === this.#serving) return;
    this.#options.log.warn(
      { from: this.#views[this.#serving]?.member.name, to: this.#views[rank]?.member.name },
      "another token serves now",
    );
    this.#serving = rank;
  }

  /** The tokens that hold a key: those that are up before the others, the serving one first, then by preference. */
  #order(keyId: string): MemberView[] {
    const rankOf = (view: MemberView): number =>
      (view.member.hsm.state().up ? 0 : 2) + (view === this.#views[this.#serving] ? 0 : 1);
    const all = [...this.#views].sort((one, other) => rankOf(one) - rankOf(other));
    const holders = all.filter((view) => view.keyIds.has(keyId));
    return holders.length > 0 ? holders : all;
  }

  async #inTurn<T>(views: readonly MemberView[], use: (hsm: Hsm) => Promise<T>): Promise<T> {
    let failure = new KmsError("HSM_UNAVAILABLE", "no token is configured");
    for (const { member } of views) {
      try {
        return await use(member.hsm);
      } catch (error) {
        failure = KmsError.from(error);
        if (!ELSEWHERE.has(failure.code)) throw failure;
      }
    }
    throw failure;
  }

  /** Asks the serving token, and the next one when it fails or is late; the first answer wins. */
  async #crypt(keyId: string, use: (hsm: Hsm) => Promise<Buffer>): Promise<Buffer> {
    const [first, second] = this.#order(keyId);
    if (first === undefined) throw new KmsError("HSM_UNAVAILABLE", "no token is configured");
    if (second === undefined) return use(first.member.hsm);
    return relay({
      first: () => use(first.member.hsm),
      second: () => use(second.member.hsm),
      lateMs: this.#options.requestTimeoutMs * LATE_PART,
      isFinal: (error) => !ELSEWHERE.has(error.code),
      onFirstFailed: () => {
        this.#leave(first);
      },
    });
  }

  /** A token that failed a request is left for the next one, if it is the serving one. */
  #leave(view: MemberView): void {
    view.wellSince = undefined;
    const next = this.#views.findIndex((other) => other !== view && other.member.hsm.state().up);
    if (this.#views[this.#serving] === view && next >= 0) this.#serve(next);
  }
}

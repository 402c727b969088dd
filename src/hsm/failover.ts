// Several tokens that hold clones of the KEK, as one HSM: the preferred one serves; when it fails or is late
// the next one does, within the same request. Coming back is damped, so that a flapping token does not flap
// the plugin.
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import { isHsmAway } from "./away.js";
import { Clones, type Reading } from "./clones.js";
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
const LATE_PART = 0.4;

/** Readings of the other tokens wait for a slow one for this many request timeouts. */
const SLOW_READING = 2;

/** Whether another token may do what this error says that one cannot. */
function isElsewhere(error: KmsError): boolean {
  return isHsmAway(error) || error.code === "OVERLOADED" || error.code === "KEY_MISSING";
}

interface MemberView {
  readonly member: Member;
  /** What it showed when it could last be read: a token that is away has lost no key. */
  reading: Reading;
  /** A reading that has not ended yet; a slow token is not given a second one. */
  running: Promise<void> | undefined;
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
    this.#views = options.members.map((member) => ({
      member,
      reading: undefined,
      running: undefined,
      keyIds: new Set(),
      wellSince: undefined,
    }));
    this.#clones = new Clones(
      options.members.map(({ name }) => name),
      options.log,
    );
  }

  encrypt(request: CryptRequest, caller: Caller): Promise<Buffer> {
    return this.#crypt(request.keyId, caller, (hsm, asker) => hsm.encrypt(request, asker));
  }

  decrypt(request: CryptRequest, caller: Caller): Promise<Buffer> {
    return this.#crypt(request.keyId, caller, (hsm, asker) => hsm.decrypt(request, asker));
  }

  /** What the reachable tokens hold together, without keys that only claim to be clones. */
  listKeks(): Promise<readonly KekRecord[]> {
    return this.#merge((hsm) => hsm.listKeks());
  }

  listKeksAnew(): Promise<readonly KekRecord[]> {
    return this.#merge((hsm) => hsm.listKeksAnew());
  }

  /** @throws KmsError when none can be read: that of the most preferred one */
  async #merge(read: (hsm: Hsm) => Promise<readonly KekRecord[]>): Promise<readonly KekRecord[]> {
    const readOne = async (view: MemberView): Promise<void> => {
      view.reading = await read(view.member.hsm);
    };
    const readings = this.#views.map(
      (view) => (view.running ??= readOne(view).finally(() => (view.running = undefined))),
    );
    const failure = await this.#enough(readings);
    this.#choose();
    if (failure !== undefined) throw failure;
    const found = new Map<string, KekRecord>();
    this.#clones.genuine(this.#views.map(({ reading }) => reading)).forEach((records = [], rank) => {
      const view = this.#views[rank];
      if (view !== undefined)
        view.keyIds = new Set(records.flatMap((record) => [record.keyId, ...record.aliases]));
      for (const record of records) {
        const name = `${record.keyId} ${record.label}`;
        if (!found.has(name)) found.set(name, record);
      }
    });
    return [...found.values()];
  }

  /** Waits for all readings, but for a slow one only so long if another has ended well. Returns why none has. */
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
        if (!isElsewhere(failure)) throw failure;
      }
    }
    throw failure;
  }

  /** Asks the serving token, and the next one when it fails or is late; the first answer wins. */
  async #crypt(
    keyId: string,
    caller: Caller,
    use: (hsm: Hsm, caller: Caller) => Promise<Buffer>,
  ): Promise<Buffer> {
    const views = this.#order(keyId);
    const [only] = views;
    if (only === undefined) throw new KmsError("HSM_UNAVAILABLE", "no token is configured");
    if (views.length === 1) return use(only.member.hsm, caller);
    const { requestTimeoutMs } = this.#options;
    const age = caller.startedAt === undefined ? 0 : performance.now() - caller.startedAt;
    return relay({
      asks: views.map(
        ({ member }) =>
          (asker) =>
            use(member.hsm, asker),
      ),
      caller,
      lateMs: requestTimeoutMs * LATE_PART,
      limitMs: Math.max(0, requestTimeoutMs - age),
      isFinal: (error) => !isElsewhere(error),
      onFailed: (asked) => {
        const view = views[asked];
        if (view !== undefined) this.#leave(view);
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

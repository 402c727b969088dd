// The token as one lane uses it: the module, the lane's session, and the generations that it knows. Performs each call
// of wire-calls.ts; decides which failed calls to repeat here and which to leave to the plugin.
import type { PKCS11 } from "pkcs11js";
import type {
  CryptRequest,
  GenerateRequest,
  KekChoice,
  KekRecord,
  ProbeResult,
  TestedRight,
  TokenDescription,
} from "../hsm/port.js";
import type {
  DestroyReply,
  DestroyRequest,
  FindCopiesRequest,
  KekCopy,
  OpenRequest,
  ProbeRequest,
  RelabelRequest,
  ReadRequest,
  ReadSlice,
  KekNames,
} from "../hsm/wire-calls.js";
import type { TrialName, TrialRequest, Trials } from "../hsm/wire-trials.js";
import { CheckedCrypt } from "./checked-crypt.js";
import { makeCheckedKek } from "./checked-kek.js";
import { TokenFault } from "./ckr.js";
import { findCopies } from "./copy-search.js";
import { destroyKeks } from "./destroyer.js";
import type { Kek } from "./kek.js";
import { KekUse, withKeyId } from "./kek-use.js";
import { candidateFor } from "./kek-candidates.js";
import type { LaneExchange } from "./lane-exchange.js";
import { LaneKeyring } from "./lane-keyring.js";
import { LoginState, type SeenLogin } from "./login-state.js";
import { loadModule } from "./module.js";
import { probe } from "./probe.js";
import { relabel } from "./relabel.js";
import { testRights } from "./rights.js";
import { TokenSession } from "./session.js";
import { describeToken, findSlot, slotHandle } from "./slots.js";
import { performTrial } from "./trials/perform.js";
import { wantedKeys } from "./wanted-keys.js";

/** What a lane shares with the others of its token host. */
export interface SharedByLanes {
  readonly exchange: LaneExchange;
  /** Makes them load the library one after another. */
  readonly turn: Int32Array<SharedArrayBuffer>;
  readonly seenLogin: SeenLogin;
}

/** Performs the calls of one lane on its token. */
export class LaneToken {
  readonly #lib: PKCS11;
  readonly #session: TokenSession;
  readonly #crypt: CheckedCrypt;
  readonly #userType: number | undefined;
  readonly #description: TokenDescription;
  readonly #keyring: LaneKeyring;
  readonly #use: KekUse;

  /** @throws TokenFault when the module, the token or a session is not available */
  constructor(request: OpenRequest, { exchange, turn, seenLogin }: SharedByLanes) {
    const { described, userType } = request;
    const { lib, oneThread } = loadModule(request, turn);
    this.#lib = lib;
    this.#userType = userType;
    const slotId = described?.slotId ?? findSlot(this.#lib, request.token);
    this.#session = new TokenSession(this.#lib, slotHandle(slotId), new LoginState(seenLogin));
    this.#crypt = new CheckedCrypt(this.#session);
    const { value: loggedIn, tookMs } = timed(() => this.#session.isLoggedIn());
    this.#description =
      described === undefined
        ? { ...this.#describeFirst(slotId, loggedIn, tookMs), ...(oneThread && { oneThread }) }
        : { ...described, loggedIn };
    const { loginRequired } = this.#description;
    this.#keyring = new LaneKeyring(this.#session, wantedKeys(request, loginRequired), exchange);
    this.#use = new KekUse(this.#session, this.#keyring, {
      atOpening: this.#description,
      now: () => this.describe(),
    });
  }

  /** A busy machine prolongs one call, but hardly two. */
  #describeFirst(slotId: number, loggedIn: boolean, otherCallMs: number): TokenDescription {
    const { value, tookMs } = timed(() => describeToken(this.#lib, slotId, loggedIn));
    return { ...value, callMs: Math.min(tookMs, otherCallMs) };
  }

  get description(): TokenDescription {
    return this.#description;
  }

  /** Reads the token information again, including its PIN flags and whether this process is logged in. */
  describe(): TokenDescription {
    return describeToken(this.#lib, this.#description.slotId, this.#session.isLoggedIn());
  }

  /**
   * Logs in. Spends at most one PIN attempt, and makes no other call on the session that `describe` has opened, so that
   * a crash during this request is a crash in C_Login.
   */
  login(pin: string): void {
    this.#session.login(pin, this.#userType);
    this.#keyring.forgetHandles();
  }

  /** Changes the PIN of the login. */
  setPin(present: string, fresh: string): void {
    this.#session.setPin(present, fresh);
  }

  /** Reads the keyring for a bounded time. */
  readKeks({ resume, only }: ReadRequest): ReadSlice {
    return only === undefined ? this.#keyring.readSlice(resume) : this.#keyring.readOne(only);
  }

  /** Replaces the names of the KEKs. */
  setKeks(names: KekNames): void {
    this.#keyring.setWanted(wantedKeys(names, this.#description.loginRequired));
  }

  /** Encrypts; `CheckedCrypt` verifies the result. */
  encrypt(request: CryptRequest): Buffer {
    return this.#use.withKek(request.keyId, (kek) => this.#crypt.encrypt(kek, request));
  }

  decrypt(request: CryptRequest): Buffer {
    return this.#use.withKekToDecrypt(request.keyId, (kek) => this.#crypt.decrypt(kek, request));
  }

  /** Number of altered results that a second attempt corrected. */
  get correctedResults(): number {
    return this.#crypt.corrected;
  }

  probe({ keyId, choice }: ProbeRequest): readonly ProbeResult[] {
    return this.#use.withKek(keyId, (kek) => probe(this.#session, kek, choice));
  }

  /** Tests what the login may do, with session objects only. */
  rights(): readonly TestedRight[] {
    return testRights(this.#session);
  }

  /** Performs one trial of a token report. */
  trial(request: TrialRequest): Trials[TrialName]["reply"] {
    const lane = {
      session: this.#session,
      withKek: <T>(keyId: string, use: (kek: Kek) => T): T => this.#use.withKek(keyId, use),
      known: (keyId: string): Kek | undefined => this.#keyring.known(keyId),
    };
    return performTrial(lane, request);
  }

  /** Returns which KEK the token can make. */
  chooseKek(request: GenerateRequest): KekChoice {
    const { kind, choice } = candidateFor(this.#session, request, this.#description.label);
    return { kind, mechanism: choice };
  }

  /** Makes a generation and checks it; returns it as a new reading of the token lists it. */
  generate(request: GenerateRequest): KekRecord {
    const lane = { session: this.#session, keyring: this.#keyring, use: this.#use };
    return makeCheckedKek(lane, request, this.#description.label);
  }

  /** Destroys every object of a KEK that a new reading finds; finding none is not an error. */
  destroy(request: DestroyRequest): DestroyReply {
    return { objects: destroyKeks(this.#session, this.#keyring, request) };
  }

  /** Finds other keys with the value of a KEK. */
  findCopies(request: FindCopiesRequest): readonly KekCopy[] {
    return findCopies(this.#session, this.#keyring, request);
  }

  /** Changes a KEK's label, or completes a change that was interrupted. */
  relabel({ keyId, label }: RelabelRequest): KekRecord {
    this.#keyring.readAll();
    try {
      relabel(this.#session, this.#keyring.all, keyId, label);
    } catch (error) {
      throw withKeyId(keyId, error);
    }
    const renamed = this.#keyring.labelled(label).find((record) => record.keyId === keyId);
    if (renamed !== undefined) return renamed;
    throw new TokenFault("the token kept the key's old label", { fault: "setup", code: "TOKEN_REFUSED" });
  }

  close(): void {
    this.#session.close();
  }
}

function timed<T>(call: () => T): { readonly value: T; readonly tookMs: number } {
  const beganAt = performance.now();
  const value = call();
  return { value, tookMs: performance.now() - beganAt };
}

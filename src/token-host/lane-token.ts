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
  OpenRequest,
  ProbeRequest,
  RelabelRequest,
  ReadRequest,
  ReadSlice,
  KekNames,
} from "../hsm/wire-calls.js";
import type { MechanismChoice } from "../hsm/mechanisms.js";
import type { TrialName, TrialRequest, Trials } from "../hsm/wire-trials.js";
import { CheckedCrypt } from "./checked-crypt.js";
import { toFault, TokenFault } from "./ckr.js";
import { destroyObjects, keksNamed } from "./destroyer.js";
import type { Kek } from "./kek.js";
import { KekUse, withKeyId } from "./kek-use.js";
import { candidateFor, makeKek, removeKeys } from "./key-maker.js";
import { NOT_LOCAL } from "./found-key.js";
import type { LaneExchange } from "./lane-exchange.js";
import { LaneKeyring } from "./lane-keyring.js";
import { loadModule } from "./module.js";
import { probe } from "./probe.js";
import { relabel } from "./relabel.js";
import { testRights } from "./rights.js";
import { TokenSession } from "./session.js";
import { describeToken, findSlot, slotHandle } from "./slots.js";
import { performTrial } from "./trials/perform.js";
import { wantedKeys } from "./wanted-keys.js";

/** Maximum time that a new key is searched for, and the pause between two searches, in ms. */
const MADE_WITHIN_MS = 5_000;
const MADE_PAUSE_MS = 250;

/** What a lane shares with the others of its token host. */
export interface SharedByLanes {
  readonly exchange: LaneExchange;
  /** Makes them load the library one after another. */
  readonly turn: Int32Array<SharedArrayBuffer>;
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
  constructor(request: OpenRequest, { exchange, turn }: SharedByLanes) {
    const { described, userType } = request;
    const { lib, oneThread } = loadModule(request, turn);
    this.#lib = lib;
    this.#userType = userType;
    const slotId = described?.slotId ?? findSlot(this.#lib, request.token);
    this.#session = new TokenSession(this.#lib, slotHandle(slotId));
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

  /**
   * Makes a generation, checks that it performs its mechanism, and returns it as a new reading of the token lists it.
   */
  generate(request: GenerateRequest): KekRecord {
    const before = new Set(this.#keyring.labelled(request.label).map(({ keyId }) => keyId));
    const { objects, choice } = makeKek(this.#session, request, this.#description.label);
    const made = this.#findMade(request.label, before);
    if (made === undefined) {
      removeKeys(this.#session, objects, "removing a key that is not found (C_DestroyObject)");
      throw new TokenFault(
        `the token made a key that cannot be found under its label "${request.label}"; it was removed; if this happens again, the token changes labels: see 'kms-pkcs11 check --token-report'`,
        { fault: "device", code: "KEY_MISSING" },
      );
    }
    if (choice === "aes-cbc-hmac" && made.kind !== "aes+hmac") {
      // NSS softokn 3.87 lets the second key replace the first.
      this.destroy({ keyIds: [made.keyId] });
      throw new TokenFault(
        "the token does not keep an AES and an HMAC key under one CKA_ID; choose another mechanism",
        { fault: "setup", code: "TOKEN_REFUSED" },
      );
    }
    const { decrypts, signs } = this.#keyring.known(made.keyId) ?? {};
    if (choice === "rsa-oaep" && (decrypts === undefined || signs === undefined)) {
      removeKeys(this.#session, objects, "removing two RSA key pairs (C_DestroyObject)");
      throw new TokenFault(
        "the token does not list both RSA key pairs of the KEK under its label; they were removed",
        { fault: "setup", code: "TOKEN_REFUSED" },
      );
    }
    this.#requireMechanism(made, choice);
    // The token has just generated the key, whatever CKA_LOCAL says.
    return { ...made, remarks: made.remarks.filter((remark) => remark !== NOT_LOCAL) };
  }

  /** Finds a generation that has just been made. A cluster of HSMs may show a new key only when all of them have it. */
  #findMade(label: string, before: ReadonlySet<string>): KekRecord | undefined {
    const until = performance.now() + MADE_WITHIN_MS;
    for (;;) {
      const made = this.#keyring.labelled(label).find(({ keyId }) => !before.has(keyId));
      if (made !== undefined || performance.now() > until) return made;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, MADE_PAUSE_MS);
    }
  }

  /** A token object may fail although a session object with the same template worked. */
  #requireMechanism({ keyId }: KekRecord, choice: MechanismChoice): void {
    let refusal: unknown;
    try {
      const [result] = this.probe({ keyId, choice });
      if (result?.works === true) return;
      refusal = new TokenFault(result?.detail ?? "it was not tried", {
        fault: "setup",
        code: "MECHANISM_UNSUPPORTED",
      });
    } catch (error) {
      refusal = error;
    }
    const { fault, code, message } = toFault(refusal, `trying ${choice}`);
    const text = `KEK ${keyId}, made on token "${this.#description.label}", does not perform ${choice} (${message})`;
    try {
      this.destroy({ keyIds: [keyId] });
    } catch (error) {
      const left = `${text}; the key is still there; remove it with 'kms-pkcs11 keys destroy ${keyId}'`;
      throw new TokenFault(left, { fault, code, cause: error });
    }
    throw new TokenFault(`${text}; the key was destroyed; set another mechanism, or auto`, { fault, code });
  }

  /** Destroys every object of a KEK that a new reading finds; finding none is not an error. */
  destroy(request: DestroyRequest): DestroyReply {
    this.#keyring.readAll();
    const keks = keksNamed(this.#keyring.all, request.keyIds);
    return { objects: destroyObjects(this.#session, keks, request) };
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

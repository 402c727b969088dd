// One session on the token, and the rule that no session outlives an error: a failed call may leave an operation active
// forever (CKR_OPERATION_ACTIVE), so the session is replaced, and the call is repeated once if the session was at
// fault. PKCS#11 v2.40 section 5.6.
import pkcs11js, { type Handle, type PKCS11 } from "pkcs11js";
import { setPinFault, toFault, TokenFault, rvOf } from "./ckr.js";
import { isPublic, LoginState } from "./login-state.js";

const CKR_SESSION_COUNT = 0xb1;
const CKR_USER_ALREADY_LOGGED_IN = 0x100;
/** CKR_ATTRIBUTE_SENSITIVE and CKR_ATTRIBUTE_TYPE_INVALID come from C_GetAttributeValue, which starts nothing. */
export const ATTRIBUTE_NOT_SHOWN: ReadonlySet<number | undefined> = new Set([0x11, 0x12]);

/** The outcome of a call that may be refused. */
export type Attempt<T> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly fault: TokenFault };

/** Makes calls on one session and replaces it after an error. */
export class TokenSession {
  readonly lib: PKCS11;
  readonly slot: Handle;
  readonly #login: LoginState;
  #handle: Handle | undefined;
  #readOnly = false;
  #operationMs: number | undefined;
  #losses = 0;
  /** Whether a new session was seen to be logged in without a login of its own. */
  #loginIsShared = false;
  /** Whether an error has replaced the session, and no call has succeeded since. */
  #isFresh = false;
  #keepsAfterErrors = false;

  constructor(lib: PKCS11, slot: Handle, login = new LoginState()) {
    this.lib = lib;
    this.slot = slot;
    this.#login = login;
  }

  /** The current session; it changes after every error. */
  get handle(): Handle {
    return (this.#handle ??= this.#open());
  }

  /**
   * Makes one call, or an Init call and its operation; after a session fault, once more on a new session.
   * @throws TokenFault after which the session has been replaced
   */
  run<T>(doing: string, call: (handle: Handle) => T): T {
    const first = this.attempt(doing, call);
    if (first.ok) return first.value;
    if (first.fault.fault !== "session") throw first.fault;
    const second = this.attempt(doing, call);
    if (second.ok) return second.value;
    throw second.fault;
  }

  /** Makes a call that may be refused; a failure replaces the session. Throws nothing. */
  attempt<T>(doing: string, call: (handle: Handle) => T): Attempt<T> {
    try {
      const value = call(this.handle);
      this.#isFresh = false;
      return { ok: true, value };
    } catch (error) {
      const rv = rvOf(error);
      const fault = toFault(error, doing);
      if (fault.fault === "object" && this.#isFresh) this.keepAfterErrors();
      if (!ATTRIBUTE_NOT_SHOWN.has(rv)) this.#replace(fault.fault === "session");
      if (fault.fault === "session") this.#losses++;
      if (fault.fault === "session" || fault.fault === "login") this.#login.doubt();
      return { ok: false, fault };
    }
  }

  /**
   * Makes errors keep the session unless it is at fault: on some tokens a handle is valid only in the session that returned
   * it (PKCS#11 v2.40, section 5.1), so that a new session would need the KEK to be searched for after each refusal.
   */
  keepAfterErrors(): void {
    this.#keepsAfterErrors = true;
  }

  /** Replaces the session after a call that succeeded with a wrong result. */
  renew(): void {
    this.#replace(false);
  }

  /**
   * Runs `work` on a session of its own, so that its errors do not affect this one; on this one, if a new session is
   * not logged in.
   */
  beside<T>(work: (session: TokenSession) => T): T {
    const other = new TokenSession(this.lib, this.slot, this.#login);
    try {
      return work(this.#isLoginOfSession(this.handle, other.handle) ? this : other);
    } finally {
      other.close();
    }
  }

  /** How often the token has ended a session: afterwards a handle may denote another object, and another token answer. */
  get losses(): number {
    return this.#losses;
  }

  /** Shortest time that an operation under a key has taken, in ms; undefined before the first. */
  get operationMs(): number | undefined {
    return this.#operationMs;
  }

  /** Performs an operation under a key, an Init call included, and measures it if it succeeds. */
  timed<T>(operation: () => T): T {
    const begunAt = performance.now();
    const result = operation();
    this.#operationMs = Math.min(this.#operationMs ?? Infinity, performance.now() - begunAt);
    return result;
  }

  /** Returns whether the application is logged in, as `LoginState` judges. */
  isLoggedIn(): boolean {
    if (!this.#login.isReported) return this.#login.withoutState();
    try {
      const doing = "reading the session (C_GetSessionInfo)";
      return this.#login.judge(this.run(doing, (handle) => this.lib.C_GetSessionInfo(handle)).state);
    } catch (error) {
      if (!(error instanceof TokenFault) || error.fault !== "setup") throw error;
      return this.#login.withoutState();
    }
  }

  /** Returns whether the state of this session shows a login. */
  showsLogin(): boolean {
    return this.#isUser(this.handle);
  }

  /** Returns whether the login may have been lost unnoticed; if so, `isLoggedIn` returns false until the next login. */
  mayBeLoggedOut(): boolean {
    return this.#login.suspect();
  }

  /** Logs in. Spends one PIN attempt unless this process is logged in already. */
  login(pin: string, userType: number = pkcs11js.CKU_USER): void {
    try {
      this.lib.C_Login(this.handle, userType, pin);
    } catch (error) {
      if (rvOf(error) !== CKR_USER_ALREADY_LOGGED_IN) throw toFault(error, "logging in (C_Login)");
    }
    this.#login.accept();
  }

  /** Changes the PIN of the login. A lost answer leaves open whether it was changed, so this is never repeated. */
  setPin(present: string, fresh: string): void {
    try {
      this.lib.C_SetPIN(this.handle, present, fresh);
    } catch (error) {
      throw setPinFault(error);
    }
  }

  close(): void {
    const handle = this.#handle;
    this.#handle = undefined;
    if (handle !== undefined) this.#discard(handle);
  }

  /**
   * The new session is opened before the old one is closed: closing the last one logs the application out. On a token that
   * logs in single sessions, the old one is kept unless it is at fault, for instance since an operation stays active.
   */
  #replace(isAtFault: boolean): void {
    const old = this.#handle;
    if (old === undefined || (this.#keepsAfterErrors && !isAtFault)) return;
    this.#handle = undefined;
    let fresh: Handle | undefined;
    try {
      fresh = this.#open();
    } catch {
      // The token has no second session, or is away: the next use opens one and reports the error.
    }
    const keepsOld = !isAtFault && fresh !== undefined && this.#isLoginOfSession(old, fresh);
    this.#handle = keepsOld ? old : fresh;
    this.#isFresh = !keepsOld && !isAtFault;
    const other = keepsOld ? fresh : old;
    if (other !== undefined) this.#discard(other);
  }

  /** Returns whether a login counts for the session that logged in, and not, as PKCS#11 says, for all of the process. */
  #isLoginOfSession(old: Handle, fresh: Handle): boolean {
    if (this.#loginIsShared) return false;
    // The new session's state is read again in case another thread has logged in meanwhile.
    const isOfSession = !this.#isUser(fresh) && this.#isUser(old) && !this.#isUser(fresh);
    this.#loginIsShared = !isOfSession && this.#isUser(fresh);
    return isOfSession;
  }

  #isUser(handle: Handle): boolean {
    try {
      return !isPublic(this.lib.C_GetSessionInfo(handle).state);
    } catch {
      return false;
    }
  }

  #discard(handle: Handle): void {
    try {
      this.lib.C_CloseSession(handle);
    } catch {
      // The session is already lost.
    }
  }

  /** Opens a read-write session, since some tokens refuse read-only ones; a read-only session if that is refused. */
  #open(): Handle {
    const serial = pkcs11js.CKF_SERIAL_SESSION;
    const flags = this.#readOnly ? serial : serial | pkcs11js.CKF_RW_SESSION;
    try {
      return this.lib.C_OpenSession(this.slot, flags);
    } catch (error) {
      if (this.#readOnly || rvOf(error) === CKR_SESSION_COUNT) {
        throw toFault(error, "opening a session (C_OpenSession)");
      }
      return this.#openReadOnly(error);
    }
  }

  #openReadOnly(refusal: unknown): Handle {
    try {
      const handle = this.lib.C_OpenSession(this.slot, pkcs11js.CKF_SERIAL_SESSION);
      this.#readOnly = true;
      return handle;
    } catch {
      throw toFault(refusal, "opening a session (C_OpenSession)");
    }
  }
}

/** Returns the mechanisms that the token lists (C_GetMechanismList); undefined if it returns no list. */
export function listedMechanisms({ lib, slot }: TokenSession): ReadonlySet<number> | undefined {
  try {
    return new Set(lib.C_GetMechanismList(slot));
  } catch {
    return undefined;
  }
}

// Whether this application is logged in: by the state of a session or, where the library does not report it, by what C_Login
// and later calls have answered. PKCS#11 v2.40 sections 5.6 and 11.6.

/** CKS_RO_PUBLIC_SESSION and CKS_RW_PUBLIC_SESSION. */
const PUBLIC_STATES: ReadonlySet<number> = new Set([0, 2]);

/** Whether a session of this process has shown a login. */
export type SeenLogin = Int32Array<SharedArrayBuffer>;

/** Returns the memory that the lanes of a token host share. */
export function newSeenLogin(): SeenLogin {
  return new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
}

/** The login as the sessions of one lane see it. */
export class LoginState {
  readonly #seen: SeenLogin;
  #isAccepted = false;
  #isReported = true;

  constructor(seen: SeenLogin = newSeenLogin()) {
    this.#seen = seen;
  }

  /** Whether the library has C_GetSessionInfo. */
  get isReported(): boolean {
    return this.#isReported;
  }

  /** Records that C_GetSessionInfo is refused. Returns whether C_Login was accepted. */
  withoutState(): boolean {
    this.#isReported = false;
    return this.#isAccepted;
  }

  /**
   * Returns whether a session in this state is logged in. A public session counts as logged in if C_Login was accepted and
   * no session of the process was ever seen to be anything but public.
   */
  judge(state: number): boolean {
    if (!isPublic(state)) Atomics.store(this.#seen, 0, 1);
    return !isPublic(state) || (this.#isAccepted && !this.#isShown);
  }

  /** Returns whether the login may have been lost unnoticed; it then counts as lost. */
  suspect(): boolean {
    if (!this.#isAccepted || (this.#isReported && this.#isShown)) return false;
    this.#isAccepted = false;
    return true;
  }

  /** Records that C_Login was accepted. */
  accept(): void {
    this.#isAccepted = true;
  }

  /** Records an answer of the token after which the login may be lost. */
  doubt(): void {
    this.#isAccepted = false;
  }

  get #isShown(): boolean {
    return Atomics.load(this.#seen, 0) === 1;
  }
}

/** Returns whether a session in this state is not logged in, as far as the library reports it. */
export function isPublic(state: number): boolean {
  return PUBLIC_STATES.has(state);
}

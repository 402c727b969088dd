// Sessions of one process: read-only ones, a second one's login, how many can be open at once, and whether one more can
// be opened after one was closed. All are closed again at once. PKCS#11 v2.40 section 5.6.
import pkcs11js, { type Handle } from "pkcs11js";
import type { Outcome, SessionTrials } from "../../hsm/wire-trials.js";
import { rvOf, toFault } from "../ckr.js";
import { TokenSession } from "../session.js";
import { faultOutcome } from "./outcome.js";

/** The plugin opens at most 64 sessions in each token host. */
const MOST_SESSIONS = 64;

/** Opens and closes sessions. @param own number of sessions that the process has open */
export function trySessions(session: TokenSession, { own }: { readonly own: number }): SessionTrials {
  const login = { loginShown: session.showsLogin(), loginShared: sharesLogin(session) };
  const opened: Handle[] = [];
  try {
    const readOnly = openOne(session, pkcs11js.CKF_SERIAL_SESSION, opened);
    // A token that refuses read-only sessions opens read-write ones, and the other way round.
    const flags = pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION;
    let oneMore: Outcome = "ok";
    while (oneMore === "ok" && own + opened.length < MOST_SESSIONS) oneMore = openOne(session, flags, opened);
    const open = own + opened.length;
    const last = opened.pop();
    if (last !== undefined) close(session, last);
    return { readOnly, ...login, open, oneMore, afterClosing: openOne(session, flags, opened) };
  } finally {
    for (const handle of opened) close(session, handle);
  }
}

function sharesLogin({ lib, slot }: TokenSession): boolean {
  const second = new TokenSession(lib, slot);
  try {
    return second.isLoggedIn();
  } finally {
    second.close();
  }
}

function openOne({ lib, slot }: TokenSession, flags: number, opened: Handle[]): Outcome {
  try {
    opened.push(lib.C_OpenSession(slot, flags));
    return "ok";
  } catch (error) {
    if (rvOf(error) === undefined) throw error;
    return faultOutcome(toFault(error, "opening a session (C_OpenSession)"));
  }
}

function close({ lib }: TokenSession, handle: Handle): void {
  try {
    lib.C_CloseSession(handle);
  } catch {
    // The session is already lost.
  }
}

// The HSM as the provider sees it: KEK generations named by key_id, two operations under them, and whether
// it can be reached. Processes, sessions, handles and tokens are hidden behind it.
import type { KmsError } from "../errors.js";
import type { MechanismChoice } from "./mechanisms.js";
import type { CryptRequest, KekRecord, ProbeResult } from "./wire.js";

/** Whoever asks may lose interest; a request whose caller has gone is not sent to the HSM. */
export interface Caller {
  readonly cancelled: boolean;
  /** When the request arrived, by performance.now(): its time runs from there. Undefined: from now. */
  readonly startedAt?: number;
  /** Where calls to token hosts made for this request are put down as they end, for tracing. */
  readonly hsmCalls?: HsmCall[] | undefined;
}

/** One operation that was sent to a token host, without its data. */
export interface HsmCall {
  readonly operation: string;
  /** "ok"; "altered" if the token altered its first result; or the fault of the wire. */
  readonly result: string;
  /** By performance.now(). */
  readonly endedAt: number;
  readonly seconds: number;
}

export const PATIENT_CALLER: Caller = { cancelled: false };

export type HsmState =
  | {
      readonly up: true;
      /** Why a token of several has not been read since the start, so that KEKs may be missing; undefined when all were. */
      readonly unread?: KmsError;
      /** What is not as it should be and keeps no operation from succeeding. */
      readonly finding?: string;
    }
  /** `reason` is undefined only before the first attempt has ended. */
  | { readonly up: false; readonly reason: KmsError | undefined };

export interface Hsm {
  /**
   * Encrypts `data` under a KEK; returns the mechanism's body.
   * @throws KmsError within the request timeout
   */
  encrypt(request: CryptRequest, caller: Caller): Promise<Buffer>;
  /**
   * Decrypts a mechanism's body; the plaintext belongs to the caller.
   * @throws KmsError NOT_AUTHENTIC when it does not open; others within the request timeout
   */
  decrypt(request: CryptRequest, caller: Caller): Promise<Buffer>;
  /** Reads the generations from the token. */
  listKeks(): Promise<readonly KekRecord[]>;
  /**
   * Reads them with a library that has been loaded anew, which costs a moment: a library whose token went away
   * may go on showing it, empty, and never find its keys again.
   */
  listKeksAnew(): Promise<readonly KekRecord[]>;
  /** Tries every mechanism (or one) with a key by round trips; records the outcome, never throws for a refusal. */
  probe(keyId: string, choice: MechanismChoice | "auto"): Promise<readonly ProbeResult[]>;
  state(): HsmState;
}

// The HSM as the provider sees it: KEK generations named by key_id, two operations under them, and whether
// it can be reached. Processes, sessions, handles and tokens are hidden behind it.
import type { KmsError } from "../errors.js";
import type { KekKind, MechanismChoice, MechanismName } from "./mechanisms.js";

/** Which token: every field that is given must match; labels are compared without their padding. */
export interface TokenSelector {
  readonly token?: string;
  readonly serial?: string;
  readonly manufacturer?: string;
  readonly model?: string;
  readonly slotId?: number;
}

export interface TokenDescription {
  readonly label: string;
  readonly serial: string;
  readonly manufacturer: string;
  readonly model: string;
  readonly slotId: number;
  readonly loginRequired: boolean;
  /** Somebody in the token host is logged in already. */
  readonly loggedIn: boolean;
  readonly pinCountLow: boolean;
  readonly pinFinalTry: boolean;
  readonly pinLocked: boolean;
  readonly protectedAuthenticationPath: boolean;
  readonly library: string;
}

/** One generation of the KEK as the token shows it. */
export interface KekRecord {
  readonly keyId: string;
  /** Other names of the same value: fingerprints by the other methods that the key performs. */
  readonly aliases: readonly string[];
  readonly label: string;
  /** CKA_ID in hex; empty if it has none. */
  readonly ckaId: string;
  readonly kind: KekKind;
  /** What is wrong with the key's attributes and forbids its use, such as "CKA_EXTRACTABLE is true". */
  readonly unprotected: readonly string[];
  /** What is not as it should be but does not forbid its use. */
  readonly remarks: readonly string[];
  /** Names of the tokens that hold it, where several are configured. */
  readonly heldBy?: readonly string[];
}

/**
 * How a plaintext that the token returns is checked: by a digest that is encrypted in front of it, or, where an older
 * ciphertext holds none, by decrypting twice. Without either the caller compares it itself.
 */
export type PlaintextCheck = "digest" | "twice";

export interface CryptRequest {
  readonly keyId: string;
  /** Below 64. */
  readonly mechanism: number;
  readonly check?: PlaintextCheck;
  readonly aad: Uint8Array;
  readonly data: Uint8Array;
}

export interface ProbeResult {
  /** The mechanism that was tried; for GCM the IV mode that was found. */
  readonly mechanism: MechanismName;
  readonly works: boolean;
  /** Why it is not taken, or what was found. */
  readonly detail: string;
}

export interface GenerateRequest {
  readonly label: string;
  /** 16 bytes in hex; where the token refuses them it chooses the id itself. */
  readonly ckaId: string;
  /** "auto" tries AES first and a lone HMAC key where AES keys cannot encrypt with authentication. */
  readonly kind: KekKind | "auto";
  /** The mechanism that the key must perform; "auto" or left out: the first in the table that the token performs. */
  readonly mechanism?: MechanismChoice | "auto";
}

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
  listKeksReloaded(): Promise<readonly KekRecord[]>;
  /** Tries every mechanism (or one) with a key by round trips; records the outcome, never throws for a refusal. */
  probe(keyId: string, choice: MechanismChoice | "auto"): Promise<readonly ProbeResult[]>;
  state(): HsmState;
}

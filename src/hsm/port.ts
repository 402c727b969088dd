// The HSM as the rest of the program knows it: KEK generations named by key_id, two operations under them, and whether
// the HSM can be reached. Processes, sessions and handles are hidden behind this port.
import type { KmsError } from "../errors.js";
import type { KekKind, MechanismChoice, MechanismName } from "./mechanisms.js";

/** Selects a token: every field that is set must match; labels are compared without their padding. */
export interface TokenSelector {
  readonly token?: string;
  readonly serial?: string;
  readonly manufacturer?: string;
  readonly model?: string;
  readonly slotId?: number;
}

/** What a token reports about itself and its PIN. */
export interface TokenDescription {
  readonly label: string;
  readonly serial: string;
  readonly manufacturer: string;
  readonly model: string;
  readonly slotId: number;
  readonly loginRequired: boolean;
  /** Whether the token host is logged in already. */
  readonly loggedIn: boolean;
  /** Shortest time that a call without a key took when a token host opened the token, in ms. */
  readonly callMs?: number;
  readonly pinCountLow: boolean;
  readonly pinFinalTry: boolean;
  readonly pinLocked: boolean;
  readonly protectedAuthenticationPath: boolean;
  /**
   * Maximum number of sessions of one application (on some tokens, of all applications together); undefined if
   * unlimited.
   */
  readonly maxSessions?: number;
  /** The library lets only one thread at a time call it, so a token host has one lane. */
  readonly oneThread?: boolean;
  /** Shortest and longest PIN, in bytes; undefined if the token does not report it. */
  readonly minPinBytes?: number;
  readonly maxPinBytes?: number;
  readonly library: string;
}

/** Why a key is never used: anybody who reaches the token may have made it, without a PIN. */
export const PUBLIC_KEY = "CKA_PRIVATE is false";

/** Remark about a key whose attributes let it decrypt only: a self-test encrypts first. */
export const DECRYPT_ONLY = "CKA_ENCRYPT and CKA_WRAP are false: it only decrypts, so no self-test proves it";

/** One generation of the KEK as the token lists it. */
export interface KekRecord {
  readonly keyId: string;
  /** Other key_ids of the same value, made with the other fingerprints that the key performs. */
  readonly aliases: readonly string[];
  readonly label: string;
  /** CKA_ID in hex; empty if it has none. */
  readonly ckaId: string;
  readonly kind: KekKind;
  /** Attributes of the key that forbid its use, such as "CKA_EXTRACTABLE is true". */
  readonly unprotected: readonly string[];
  /** Shortcomings of the key that do not forbid its use. */
  readonly remarks: readonly string[];
  /** Names of the tokens that hold it, if several are configured. */
  readonly heldBy?: readonly string[];
}

/**
 * How a plaintext returned by the token is checked: by a digest that is encrypted in front of it or, for an older
 * ciphertext without a digest, by decrypting twice. If undefined, the caller compares the plaintext itself.
 */
export type PlaintextCheck = "digest" | "twice";

/** An Encrypt or Decrypt under a KEK. */
export interface CryptRequest {
  readonly keyId: string;
  /** The id of a row in the mechanism table; below 64. */
  readonly mechanism: number;
  readonly check?: PlaintextCheck;
  readonly aad: Uint8Array;
  readonly data: Uint8Array;
}

/** The result of testing one mechanism with a KEK. */
export interface ProbeResult {
  /** The tested mechanism; for GCM with the IV mode that was found. */
  readonly mechanism: MechanismName;
  readonly works: boolean;
  /** Why it does not work, or what was found. */
  readonly detail: string;
}

/**
 * What the login may do with session objects, which differ from keys on the token in that they end with the session.
 */
export interface TestedRight {
  readonly right: "make keys" | "import keys" | "destroy keys";
  /** "untested": the error says nothing about the login, or there was no object to test with. */
  readonly outcome: "permitted" | "refused" | "untested";
  readonly detail: string;
}

/** A generation to make on the token. */
export interface GenerateRequest {
  readonly label: string;
  /** 16 bytes in hex; a token that refuses them chooses the id itself. */
  readonly ckaId: string;
  /** "auto" tries AES first, then an HMAC key if AES keys cannot encrypt with authentication. */
  readonly kind: KekKind | "auto";
  /** The mechanism that the key must perform; "auto" or undefined: the first in the table that the token performs. */
  readonly mechanism?: MechanismChoice | "auto";
  /** CKA_LABEL of keys that are made for a trial and removed again; "kms-pkcs11 trial" if undefined. */
  readonly trialLabel?: string;
}

/** The kind of KEK to make, and the mechanism for which it is made. */
export interface KekChoice {
  readonly kind: KekKind;
  readonly mechanism: MechanismChoice;
}

/** The caller of a request. If it cancels, the request is not sent to the HSM any more. */
export interface Caller {
  readonly cancelled: boolean;
  /** When the request began to be served, by performance.now(); its timeout starts then. Undefined: now. */
  readonly startedAt?: number;
  /** Whether every other request goes first: background work, for which nobody waits. */
  readonly isBackground?: boolean;
  /** Whether it proves a KEK: no request waits for it, but it has its turn among requests. */
  readonly isProof?: boolean;
  /** Collects the finished calls to token hosts made for this request, for tracing. */
  readonly hsmCalls?: HsmCall[] | undefined;
}

/** One operation that was sent to a token host, without its data. */
export interface HsmCall {
  readonly operation: string;
  /** "ok"; "altered" if the token altered its first result; otherwise the fault class. */
  readonly result: string;
  /** By performance.now(). */
  readonly endedAt: number;
  readonly seconds: number;
}

/** A caller that never cancels. */
export const PATIENT_CALLER: Caller = { cancelled: false };

/** The caller of a proof. */
export const PROOF_CALLER: Caller = { cancelled: false, isProof: true };

/** The caller of background work: it never cancels, and every other request goes first. */
export const BACKGROUND_CALLER: Caller = { cancelled: false, isBackground: true };

/** Whether the HSM can be reached. */
export type HsmState =
  | {
      readonly up: true;
      /**
       * Why one of several tokens has not been read since the start, so that KEKs may be missing; undefined if all have
       * been read.
       */
      readonly unread?: KmsError;
      /** A problem that does not make operations fail. */
      readonly finding?: string;
    }
  /** `reason` is undefined only until the first attempt ends. */
  | { readonly up: false; readonly reason: KmsError | undefined };

/** The port through which the rest of the program uses the HSM. */
export interface Hsm {
  /**
   * Encrypts `data` under a KEK; returns the mechanism's body.
   * @throws KmsError within the request timeout
   */
  encrypt(request: CryptRequest, caller: Caller): Promise<Buffer>;
  /**
   * Decrypts a mechanism's body; the plaintext belongs to the caller.
   * @throws KmsError NOT_AUTHENTIC when it does not authenticate; others within the request timeout
   */
  decrypt(request: CryptRequest, caller: Caller): Promise<Buffer>;
  /**
   * Reads the generations from the token.
   * @param maxAgeMs how long ago the reading may have begun, if several clusters share the token; 0 if omitted
   * @throws KmsError
   */
  listKeks(maxAgeMs?: number): Promise<readonly KekRecord[]>;
  /**
   * Reads the generations with a freshly loaded library, which takes longer: after a token was away, its library may
   * keep listing it as empty and never find its keys again.
   * @param maxAgeMs as for `listKeks`
   * @throws KmsError
   */
  listKeksReloaded(maxAgeMs?: number): Promise<readonly KekRecord[]>;
  /**
   * Tests one or all mechanisms with a KEK by round trips, and returns the results; a refusal is a result.
   * @throws KmsError
   */
  probe(keyId: string, choice: MechanismChoice | "auto"): Promise<readonly ProbeResult[]>;
  state(): HsmState;
}

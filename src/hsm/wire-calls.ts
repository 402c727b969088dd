// The calls that the plugin makes to a token host: what each operation asks for and what it returns. How they become
// bytes is wire.ts's business; what the token host does about them, token-host/lane-token.ts's.
import type { ErrorCode } from "../errors.js";
import type { FaultClass, PinVerdict } from "./fault.js";
import type { MechanismChoice } from "./mechanisms.js";
import type { GenerateRequest, KekRecord, ProbeResult, TokenDescription, TokenSelector } from "./port.js";
import type { Deadline } from "./wire-deadline.js";

/** The numbers are bytes of the wire. */
export const Op = {
  open: 1,
  login: 2,
  readKeks: 3,
  encrypt: 4,
  decrypt: 5,
  probe: 6,
  generate: 7,
  destroy: 8,
  relabel: 9,
  close: 10,
  describe: 11,
} as const;
export type Op = (typeof Op)[keyof typeof Op];

/** A request for an HSM operation under a KEK; it carries bytes, not JSON. */
export type CryptOp = typeof Op.encrypt | typeof Op.decrypt;

/** Every other operation, with what it sends and what it returns as JSON. */
export interface ControlCalls {
  /** Loads the module, finds the token and opens the lane's session. */
  [Op.open]: { request: OpenRequest; reply: TokenDescription };
  [Op.describe]: { request: NoFields; reply: TokenDescription };
  /** The PIN is not in the JSON: it is the request's secret. */
  [Op.login]: { request: NoFields; reply: NoFields };
  [Op.readKeks]: { request: ReadRequest; reply: ReadSlice };
  [Op.probe]: { request: ProbeRequest; reply: readonly ProbeResult[] };
  [Op.generate]: { request: GenerateRequest; reply: KekRecord };
  [Op.destroy]: { request: DestroyRequest; reply: DestroyReply };
  [Op.relabel]: { request: RelabelRequest; reply: KekRecord };
  /** Closes the lane's session. */
  [Op.close]: { request: NoFields; reply: NoFields };
}
export type ControlOp = keyof ControlCalls;
export type ControlRequest<O extends ControlOp> = ControlCalls[O]["request"];
export type ControlReply<O extends ControlOp> = ControlCalls[O]["reply"];

export type NoFields = Readonly<Record<string, never>>;

export interface OpenRequest {
  readonly modulePath: string;
  readonly moduleParameters?: string;
  readonly token: TokenSelector;
  /** The KEK's name: the CKA_LABEL, or the part of it before "@". */
  readonly objectName: string;
  /** Only the key with this CKA_ID (hex), if the URI names one. */
  readonly ckaId?: string;
  /** The slot that another lane of the same token host has found; it is logged in already. */
  readonly slotId?: number;
}

/** A reading of the keyring is asked for in slices, so that requests are served in between. */
export interface ReadRequest {
  /** Whether to continue the reading that an earlier request began; otherwise a new one begins. */
  readonly resume: boolean;
  /** Instead of a reading: this key_id alone, by a search for its CKA_ID. None is found if the token cannot search so. */
  readonly only?: string;
}

export interface ReadingProgress {
  /** Secret keys that have been dealt with, of those that a search of the token has shown. */
  readonly seen: number;
  readonly objects: number;
}

/** What one request has come to: how far the reading is, or all that it has found. */
export type ReadSlice = ({ readonly done: false } & ReadingProgress) | ({ readonly done: true } & TokenKeys);

export interface TokenKeys {
  readonly keks: readonly KekRecord[];
  /** Secret keys on the token, those of other applications included. */
  readonly objects: number;
  /** Objects that could not be read, whose they may be. */
  readonly unreadable: number;
  /** Why the first of them could not; empty when all could. */
  readonly unreadableReason: string;
}

export interface ProbeRequest {
  readonly keyId: string;
  readonly choice: MechanismChoice | "auto";
}

export interface DestroyRequest {
  /** The key_id and its aliases: another token may name the value by another of them. */
  readonly keyIds: readonly string[];
  /** No C_DestroyObject is begun later. */
  readonly notAfter?: Deadline;
}

export interface DestroyReply {
  /** Objects that were found and destroyed. */
  readonly objects: number;
}

export interface RelabelRequest {
  readonly keyId: string;
  readonly label: string;
}

export interface WireFailure {
  readonly code: ErrorCode;
  readonly message: string;
  /** What the plugin has to do about it. */
  readonly fault: FaultClass;
  /** The CK_RV, if a call returned one. */
  readonly rv?: number;
  /** The CK_RV stands in no row of the CKR table. */
  readonly unknownRv?: boolean;
  /** Of a failed login: the PIN is wrong, nothing was said against it, or nobody can tell. */
  readonly pin?: PinVerdict;
}

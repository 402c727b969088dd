// The calls that the plugin makes to a token host: the request and reply of each operation. wire.ts encodes them;
// token-host/lane-token.ts performs them.
import type { ErrorCode } from "../errors.js";
import type { FaultClass, PinVerdict } from "./fault.js";
import type { MechanismChoice } from "./mechanisms.js";
import type {
  GenerateRequest,
  KekChoice,
  KekRecord,
  ProbeResult,
  TestedRight,
  TokenDescription,
  TokenSelector,
} from "./port.js";
import type { Deadline } from "./wire-deadline.js";
import type { TrialRequest } from "./wire-trials.js";

/** The operations. The numbers are the bytes sent over the wire. */
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
  rights: 12,
  trial: 13,
  setPin: 14,
  end: 15,
  setKeks: 16,
  chooseKek: 17,
  findCopies: 18,
} as const;
/** The number of an operation. */
export type Op = (typeof Op)[keyof typeof Op];

/** An operation under a KEK; its request and reply carry bytes, not JSON. */
export type CryptOp = typeof Op.encrypt | typeof Op.decrypt;

/** The request and reply of every other operation, sent as JSON. */
export interface ControlCalls {
  /** Loads the module, finds the token and opens the lane's session. */
  [Op.open]: { request: OpenRequest; reply: TokenDescription };
  [Op.describe]: { request: NoFields; reply: TokenDescription };
  /** The PIN is not in the JSON: it is the request's secret. */
  [Op.login]: { request: NoFields; reply: NoFields };
  /** Changes the PIN of the login; both PINs are the request's secret, the present one first. */
  [Op.setPin]: { request: SetPinRequest; reply: NoFields };
  [Op.readKeks]: { request: ReadRequest; reply: ReadSlice };
  /** Replaces the names of the KEKs that the lane knows of; the next reading looks for these. */
  [Op.setKeks]: { request: KekNames; reply: NoFields };
  [Op.probe]: { request: ProbeRequest; reply: readonly ProbeResult[] };
  [Op.rights]: { request: NoFields; reply: readonly TestedRight[] };
  /** Tries which KEK the token can make. Makes no RSA pair, so that it never takes long. */
  [Op.chooseKek]: { request: GenerateRequest; reply: KekChoice };
  [Op.generate]: { request: GenerateRequest; reply: KekRecord };
  [Op.destroy]: { request: DestroyRequest; reply: DestroyReply };
  /** Searches the whole token for other keys with the value of a KEK. */
  [Op.findCopies]: { request: FindCopiesRequest; reply: readonly KekCopy[] };
  [Op.relabel]: { request: RelabelRequest; reply: KekRecord };
  /** One trial of a token report; wire-trials.ts gives the type of its reply. */
  [Op.trial]: { request: TrialRequest; reply: unknown };
  /** Closes the lane's session. */
  [Op.close]: { request: NoFields; reply: NoFields };
  /** Closes the lane's session and ends its thread. */
  [Op.end]: { request: NoFields; reply: NoFields };
}
/** An operation other than Encrypt and Decrypt. */
export type ControlOp = keyof ControlCalls;
/** The request of a control operation. */
export type ControlRequest<O extends ControlOp> = ControlCalls[O]["request"];
/** The reply to a control operation. */
export type ControlReply<O extends ControlOp> = ControlCalls[O]["reply"];

/** An empty request or reply. */
export type NoFields = Readonly<Record<string, never>>;

/** Which keys on a token are a KEK's generations. */
export interface KekName {
  /** The KEK's name: the CKA_LABEL, or the part of it before "@". */
  readonly objectName: string;
  /** Only the key with this CKA_ID (hex), if the URI names one. */
  readonly ckaId?: string;
}

/** The KEK of a token, and those of other clusters that share the token. No two have the same name. */
export interface KekNames extends KekName {
  readonly others?: readonly KekName[];
}

/** The module to load, the token to find, and the KEKs' names on it. */
export interface OpenRequest extends KekNames {
  readonly modulePath: string;
  /** The function that returns the library's functions; C_GetFunctionList if undefined. */
  readonly moduleEntry?: string;
  readonly moduleParameters?: string;
  readonly token: TokenSelector;
  /** What C_Login receives; CKU_USER if undefined. */
  readonly userType?: number;
  /** The token, as described by the first lane of the same token host. */
  readonly described?: TokenDescription;
}

/** Where the new PIN begins in the secret. */
export interface SetPinRequest {
  /** Length of the present PIN. */
  readonly presentBytes: number;
}

/** A reading of the keyring is made in slices, so that requests are served in between. */
export interface ReadRequest {
  /** Whether to continue the reading that an earlier request began; otherwise a new one begins. */
  readonly resume: boolean;
  /**
   * If set, searches by CKA_ID for this key_id alone instead of making a reading. Finds nothing if the token cannot
   * search by CKA_ID.
   */
  readonly only?: string;
}

/** The progress of a reading. */
export interface ReadingProgress {
  /** Secret keys read so far, of the `objects` that the search returned. */
  readonly seen: number;
  readonly objects: number;
}

/** The reply to one slice: the progress, or the finished reading. */
export type ReadSlice =
  ({ readonly done: false } & ReadingProgress) | ({ readonly done: true } & KeyringReading);

/** A finished reading. */
export interface KeyringReading {
  readonly keks: readonly KekRecord[];
  /** Secret keys on the token, including those of other applications. */
  readonly objects: number;
  /** Objects that could not be read; their owner is unknown. */
  readonly unreadable: number;
  /** Why the first of them could not be read; empty if all could. */
  readonly unreadableReason: string;
  /** Shortest time that an operation under a key took on this lane, in ms; undefined if it has made none. */
  readonly operationMs?: number;
}

/** The KEK and the mechanism to test. */
export interface ProbeRequest {
  readonly keyId: string;
  readonly choice: MechanismChoice | "auto";
}

/** The KEK to destroy. */
export interface DestroyRequest {
  /** The key_id and its aliases: another token may list the value under an alias. */
  readonly keyIds: readonly string[];
  /** No C_DestroyObject starts later. */
  readonly notAfter?: Deadline;
}

/** The result of a destruction. */
export interface DestroyReply {
  /** Number of destroyed objects. */
  readonly objects: number;
}

/** The KEK whose copies are searched for. */
export interface FindCopiesRequest {
  /** The key_id and its aliases. */
  readonly keyIds: readonly string[];
}

/** What shows that another key has the value of a KEK. Two keys may share a check value, three bytes, by chance. */
export const COPY_SIGNS = ["fingerprint", "check value", "modulus"] as const;

/** Another key that has, or seems to have, the value of a KEK. */
export interface KekCopy {
  readonly label: string;
  /** In hex; empty if it has none. */
  readonly ckaId: string;
  readonly sign: (typeof COPY_SIGNS)[number];
}

/** The KEK to relabel and its new CKA_LABEL. */
export interface RelabelRequest {
  readonly keyId: string;
  readonly label: string;
}

/** Why a call failed. */
export interface WireFailure {
  readonly code: ErrorCode;
  readonly message: string;
  /** What the plugin has to do about it. */
  readonly fault: FaultClass;
  /** The CK_RV, if a call returned one. */
  readonly rv?: number;
  /** Whether the CK_RV is missing from the CKR table. */
  readonly unknownRv?: boolean;
  /** Set only for a failed login. */
  readonly pin?: PinVerdict;
}

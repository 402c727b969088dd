// The trials of a token report: each exercises one thing that the plugin relies on, with objects that carry the report's
// own label, and returns what the token did. wire-calls.ts carries them; token-host/trials/ performs them.
import type { ErrorCode } from "../errors.js";
import { MECHANISM_CHOICES, type MechanismChoice, type MechanismName } from "./mechanisms.js";

/** "ok"; the failed call's CK_RV, such as "0x13 CKR_ATTRIBUTE_VALUE_INVALID"; or what was wrong. */
export type Outcome = string;

/** The request and reply of each trial. */
export interface Trials {
  /** Reads the information functions. */
  describe: { request: object; reply: TokenFacts };
  /** Makes keys from the plugin's templates and removes them. */
  templates: { request: TrialLabel; reply: TemplateTrials };
  /** Searches for the keys with a label. */
  searches: { request: TrialLabel & { readonly ckaId: string }; reply: readonly SearchTrial[] };
  /** Counts the keys with a label that this process finds. */
  count: { request: TrialLabel; reply: { readonly found: number } };
  /** Reads the attributes of a KEK's keys. */
  attributes: { request: { readonly keyId: string }; reply: readonly AttributeTrial[] };
  /** Performs a mechanism with a KEK, and tampers with its results. */
  mechanism: {
    request: { readonly keyId: string; readonly choice: MechanismChoice };
    reply: MechanismTrial;
  };
  /** Opens sessions up to a limit and closes them. @param own sessions that the process has open already */
  sessions: { request: { readonly own: number }; reply: SessionTrials };
  /** Uses a KEK by the handle that was found before, without a new search; the reply is empty if there was none. */
  handle: {
    request: { readonly keyId: string; readonly mechanism: MechanismName };
    reply: { readonly outcome?: Outcome };
  };
  /** Measures calls. */
  latencies: {
    request: TrialLabel & { readonly keyId: string; readonly mechanism: MechanismName };
    reply: readonly Latency[];
  };
  /** Destroys every object with the report's label, and looks for them again. */
  remove: { request: TrialLabel; reply: Removal };
}
/** The name of a trial. */
export type TrialName = keyof Trials;
/** A trial as it is sent. */
export type TrialRequest = {
  readonly [N in TrialName]: { readonly trial: N } & Trials[N]["request"];
}[TrialName];

/** A CKA_LABEL of the report's objects: all start with TRIAL_PREFIX and a random part that no other object has. */
export interface TrialLabel {
  readonly label: string;
}

/** Longer than the name of any KEK, so that no KEK has such a label. A random part follows. */
export const TRIAL_PREFIX = "kms-pkcs11 trial ";
/** Lengths of CKA_LABEL that are tried; the longest label of a KEK has 32 bytes. */
export const LABEL_LENGTHS = [32, 40, 64, 128] as const;

/** Returns the CKA_LABEL of the report's KEK for a mechanism; its object name is the report's label. */
export function trialKekLabel({ label }: TrialLabel, choice: MechanismChoice): string {
  return `${label}@${MECHANISM_CHOICES.indexOf(choice)}`;
}

/** Returns every label that the trials give to objects. */
export function trialLabels({ label }: TrialLabel): string[] {
  return [
    label,
    ...MECHANISM_CHOICES.map((choice) => trialKekLabel({ label }, choice)),
    ...LABEL_LENGTHS.map((bytes) => label.padEnd(bytes, "x")),
  ];
}

/** What the information functions return. */
export interface TokenFacts {
  /** Undefined if the library does not describe itself. */
  readonly library?: {
    readonly manufacturer: string;
    readonly description: string;
    readonly version: string;
    readonly cryptoki: string;
  };
  /** Undefined if the slot does not describe itself. */
  readonly slot?: {
    readonly description: string;
    readonly manufacturer: string;
    readonly hardware: string;
    readonly firmware: string;
    readonly flags: string;
  };
  readonly token: {
    readonly label: string;
    readonly serial: string;
    readonly manufacturer: string;
    readonly model: string;
    readonly hardware: string;
    readonly firmware: string;
    readonly flags: string;
    /** As reported; 0 is unlimited. */
    readonly maxSessions: number;
    readonly pinBytes: readonly [min: number, max: number];
  };
  /** As listed, in hex; empty if the token returns no list. */
  readonly mechanisms: readonly string[];
}

/** Whether the token makes one kind of key, as a session object or on the token. */
export interface TemplateTrial {
  readonly kind: "aes" | "hmac";
  readonly onToken: boolean;
  /** Of the first template that was accepted, or of the full template. */
  readonly outcome: Outcome;
  /** CKK_ name of the accepted key. */
  readonly keyType?: string;
  /** Attributes that the token refuses, such as "CKA_VALUE_LEN=32". */
  readonly refused: readonly { readonly attribute: string; readonly outcome: Outcome }[];
  /** Length of the key; undefined if the token does not show it. */
  readonly bits?: number;
}

/** How long an attribute may be. */
export interface LengthTrial {
  readonly attribute: "CKA_ID" | "CKA_LABEL";
  /** The longest value that was kept unchanged, in bytes. */
  readonly kept: number;
  /** The shortest that was not; undefined if all were. */
  readonly refused?: { readonly bytes: number; readonly outcome: Outcome };
}

/** The templates, and what can be done to a key that was made. */
export interface TemplateTrials {
  readonly keys: readonly TemplateTrial[];
  readonly lengths: readonly LengthTrial[];
  /** C_SetAttributeValue of a key's CKA_LABEL; undefined if there was no key. */
  readonly relabel?: Outcome;
  /** C_CopyObject with another CKA_LABEL. */
  readonly copy?: Outcome;
}

/** One search. */
export interface SearchTrial {
  readonly search: string;
  readonly outcome: Outcome;
  /** Number of the report's secret keys among the results. */
  readonly own: number;
  /** Whether a search that names the report's keys returned other objects too. */
  readonly others: boolean;
}

/** An attribute of a key. */
export interface AttributeTrial {
  readonly kind: "aes" | "hmac" | "rsa";
  readonly attribute: string;
  readonly outcome: Outcome;
  /** "true", "false", a number, or the length of other values in bytes. */
  readonly value?: string;
}

/** A mechanism of the plugin's table. */
export interface MechanismTrial {
  readonly choice: MechanismChoice;
  /** With the variant that works, such as the IV mode of GCM. */
  readonly mechanism: MechanismName;
  readonly works: boolean;
  /** Why it does not work, or what was found. */
  readonly detail: string;
  /** The error code of the refusal. */
  readonly code?: ErrorCode;
  /** Of AES-GCM: the mechanism number, and who makes the IV. */
  readonly gcm?: {
    readonly ckm: string;
    readonly ivSent: "random" | "zero" | "none";
    readonly ivBytes: number;
    /** Whether decryption expects the token's whole output, including the IV. */
    readonly ownFormat: boolean;
  };
  /** How the token refused a body with one flipped bit. "accepted" if it did not. */
  readonly flippedBits?: readonly { readonly at: "first" | "middle" | "last"; readonly outcome: Outcome }[];
  /** The same, for other associated data. */
  readonly flippedAad?: Outcome;
  /** A round trip of a plaintext of this many bytes. */
  readonly lengths?: readonly { readonly bytes: number; readonly outcome: Outcome }[];
}

/** Sessions of one process. */
export interface SessionTrials {
  readonly readOnly: Outcome;
  /** Whether a session that is logged in shows it; undefined in earlier reports. */
  readonly loginShown?: boolean;
  /** Whether a second session of this thread shows that it is logged in without a login of its own. */
  readonly loginShared: boolean;
  /** Number of sessions that were open at once. */
  readonly open: number;
  /** Outcome of opening one more; "ok" if the trial ended before a limit. */
  readonly oneMore: Outcome;
  /** Opening a session after one was closed. */
  readonly afterClosing: Outcome;
}

/** Durations of a call, in ms. */
export interface Latency {
  readonly call: string;
  readonly samples: number;
  readonly q1Ms: number;
  readonly medianMs: number;
  readonly q3Ms: number;
}

/** What the removal did. */
export interface Removal {
  readonly removed: number;
  /** Objects that are still there, such as "a secret key labelled ... (0x5 CKR_GENERAL_ERROR)". */
  readonly left: readonly string[];
}

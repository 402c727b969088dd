// The token report: what a token did when everything that the plugin relies on was tried. An operator sends it to the
// developers of the plugin, and the tests' fault module replays it, so its format has a version.
import type { MechanismChoice } from "../../hsm/mechanisms.js";
import type { KekRecord, TestedRight } from "../../hsm/port.js";
import type {
  AttributeTrial,
  Latency,
  MechanismTrial,
  Outcome,
  SearchTrial,
  SessionTrials,
  TemplateTrials,
  TokenFacts,
} from "../../hsm/wire-trials.js";

/** Changes with the meaning of any field; new fields alone do not change it. */
export const TOKEN_REPORT_SCHEMA = "kms-pkcs11.dev/token-report/v1";

/** How far one login reaches. */
export interface LoginScope {
  readonly required: boolean;
  /** Whether keys were made with the administrator's login. */
  readonly administrator: boolean;
  /** Whether another process is logged in without a login of its own. */
  readonly otherProcess?: boolean;
  /** The same, for another load of the library in one process. */
  readonly otherLoad?: boolean;
}

/** A KEK that `keys create` would make for a mechanism. */
export interface MadeKek {
  readonly choice: MechanismChoice;
  /** "ok", or why it was not made. */
  readonly outcome: Outcome;
  readonly kind?: KekRecord["kind"];
  /** Whether the token kept the CKA_ID that was requested. */
  readonly idKept?: boolean;
  /** What `check` would say about the key. */
  readonly remarks?: readonly string[];
}

/** When a process with a loaded library sees a change made by another process. */
export interface Visibility {
  readonly made?: "at once" | "within 2 s" | "after the library is loaded again" | "never";
  readonly destroyed?: "at once" | "after the library is loaded again";
  /** Outcome of using the handle of a destroyed key; "ok" if it still works. */
  readonly destroyedKey?: Outcome;
}

/** What the trials returned. */
export interface Observations {
  readonly facts?: TokenFacts;
  readonly login: LoginScope;
  /** Whether the library admits one process at a time; then nothing shows what another process sees. */
  readonly exclusive?: boolean;
  readonly rights: readonly TestedRight[];
  readonly templates?: TemplateTrials;
  readonly keks: readonly MadeKek[];
  /** Whether the trials used the plugin's KEK, since the token makes none. */
  readonly usedExistingKek: boolean;
  readonly visibility: Visibility;
  readonly searches: readonly SearchTrial[];
  readonly attributes: readonly AttributeTrial[];
  readonly mechanisms: readonly MechanismTrial[];
  readonly sessions?: SessionTrials;
  readonly latencies: readonly Latency[];
  /** Trials that ended in an error. */
  readonly failures: readonly { readonly trial: string; readonly reason: string }[];
  /** Objects of the report that could not be removed. */
  readonly leftBehind: readonly string[];
}

/** A conclusion from the observations, in the words of `check`. */
export interface Finding {
  readonly verdict: "ok" | "warn" | "fail";
  readonly subject: string;
  readonly detail: string;
}

/** What may identify the token and its owner; included only on request. */
export interface Identity {
  readonly label: string;
  readonly serial: string;
  readonly slot: string;
}

/** The document. */
export interface TokenReport extends Omit<Observations, "facts"> {
  readonly schema: typeof TOKEN_REPORT_SCHEMA;
  readonly madeBy: string;
  readonly at: string;
  readonly seconds: number;
  /** File name of the PKCS#11 library. */
  readonly module: string;
  readonly facts: PublicFacts;
  readonly identity: Identity | "left out";
  readonly findings: readonly Finding[];
}

/** The facts without label, serial number and the slot's description, which may name a host. */
export interface PublicFacts {
  readonly library?: TokenFacts["library"];
  readonly slot?: Omit<NonNullable<TokenFacts["slot"]>, "description">;
  readonly token?: Omit<TokenFacts["token"], "label" | "serial">;
  readonly mechanisms?: TokenFacts["mechanisms"];
}

// What the thread that reads and the threads that count send each other.
import type { KeyObject } from "node:crypto";
import { KmsError, type ErrorCode } from "../../errors.js";
import type { CensusPart } from "../census.js";
import type { SeedOutcome, SeedQuestion } from "../seeds.js";
import type { VerificationResult } from "../verification.js";

/** What a thread counts, and the type of its part of the result. */
export interface Parts {
  readonly census: CensusPart;
  readonly verification: VerificationResult;
}

export type Kind = keyof Parts;

export interface Task {
  readonly kind: Kind;
  /** kube-apiserver's `--etcd-prefix`. */
  readonly prefix: string;
  /** How many objects that cannot be decrypted are listed one by one; default: none. */
  readonly listed?: number;
}

/** To a counting thread: objects as they are stored, the seed that it asked for, or the end of the objects. */
export type ToThread =
  | { readonly kind: "batch"; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: "seed"; readonly id: number; readonly outcome: SentOutcome }
  | { readonly kind: "end" };

/** From a counting thread: a batch has been counted, a seed is needed, its result, or why it cannot continue. */
export type FromThread =
  | { readonly kind: "counted" }
  | { readonly kind: "seed"; readonly id: number; readonly question: SeedQuestion }
  | { readonly kind: "part"; readonly part: Parts[Kind] }
  | { readonly kind: "failure"; readonly failure: SentError };

/** A KmsError, whose class and code do not survive being sent. */
export interface SentError {
  readonly code: ErrorCode;
  readonly message: string;
}

export type SentOutcome = { readonly seed: KeyObject } | { readonly refusal: SentError };

export function sentError(error: unknown): SentError {
  const { code, message } = KmsError.from(error);
  return { code, message };
}

export function sentOutcome(outcome: SeedOutcome): SentOutcome {
  return "seed" in outcome ? outcome : { refusal: sentError(outcome.refusal) };
}

export function receivedOutcome(outcome: SentOutcome): SeedOutcome {
  return "seed" in outcome ? outcome : { refusal: receivedError(outcome.refusal) };
}

export function receivedError({ code, message }: SentError): KmsError {
  return new KmsError(code, message);
}

// The rules' view of a KMS v2 plugin behind a socket. The rules do not know gRPC: the caller provides connections,
// which return an error of the plugin as a value instead of throwing it.

export interface PluginStatus {
  readonly version: string;
  readonly healthz: string;
  readonly keyId: string;
}

export interface Sealed {
  readonly ciphertext: Buffer;
  readonly keyId: string;
  readonly annotations: Record<string, Buffer>;
}

export type Answer<T> =
  | { readonly value: T; readonly ms: number }
  /** The name and the text of the gRPC status. */
  | { readonly refused: string; readonly text: string; readonly ms: number };

export interface Connection {
  status(): Promise<Answer<PluginStatus>>;
  encrypt(plaintext: Uint8Array, timeoutMs?: number): Promise<Answer<Sealed>>;
  decrypt(sealed: Sealed): Promise<Answer<Buffer>>;
  close(): void;
}

export interface Plugin {
  /** Opens a new connection. @param authority the value of `:authority` */
  connect(authority?: string): Connection;
  readonly socketPath: string;
}

/** must: otherwise kube-apiserver fails or data is at risk; should: kube-apiserver copes; may: for information. */
export type Level = "must" | "should" | "may";

export interface Rule {
  readonly rule: string;
  readonly level: Level;
  /** Returns what was observed. @throws Violation if the rule is broken; any other error is a defect */
  readonly check: (connection: Connection, plugin: Plugin) => Promise<string>;
}

/** The rule is broken; the message says what was observed. */
export class Violation extends Error {}

/** Returns whether the plugin answered with an error. */
export function isRefused<T>(answer: Answer<T>): answer is Extract<Answer<T>, { refused: string }> {
  return "refused" in answer;
}

/** Returns the answer's value. @throws Violation if the answer is an error */
export function valueOf<T>(answer: Answer<T>, what: string): T {
  if (isRefused(answer)) throw new Violation(`${what} answers ${answer.refused}: ${answer.text}`);
  return answer.value;
}

/** Checks a condition. @throws Violation with `seen` unless it holds */
export function require(holds: boolean, seen: string): asserts holds {
  if (!holds) throw new Violation(seen);
}

/** kube-apiserver's default `timeout`. */
export const TIMEOUT_MS = 3_000;
/** The length of a DEK seed, which kube-apiserver sends. */
export const SEED_BYTES = 32;

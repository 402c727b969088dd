// What the contract is asked of: a KMS v2 plugin behind a socket, as kube-apiserver sees it. The rules know no
// gRPC; whoever runs them hands in connections, and an answer that is an error is a value here, not a throw.

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
  /** The gRPC status' name and its text. */
  | { readonly refused: string; readonly text: string; readonly ms: number };

export interface Connection {
  status(): Promise<Answer<PluginStatus>>;
  encrypt(plaintext: Uint8Array, timeoutMs?: number): Promise<Answer<Sealed>>;
  decrypt(sealed: Sealed): Promise<Answer<Buffer>>;
  close(): void;
}

export interface Plugin {
  /** A connection of its own. @param authority what is sent as `:authority` */
  connect(authority?: string): Connection;
  readonly socketPath: string;
}

/** Must: kube-apiserver fails without it, or data is at risk. Should: it goes on. May: good to know. */
export type Level = "must" | "should" | "may";

export interface Rule {
  readonly rule: string;
  readonly level: Level;
  /** Returns what was seen. @throws Violation; anything else is a defect */
  readonly check: (connection: Connection, plugin: Plugin) => Promise<string>;
}

/** What was seen is not what the rule asks for. */
export class Violation extends Error {}

export function isRefused<T>(answer: Answer<T>): answer is Extract<Answer<T>, { refused: string }> {
  return "refused" in answer;
}

/** Returns the value. @throws Violation when the answer is an error */
export function valueOf<T>(answer: Answer<T>, what: string): T {
  if (isRefused(answer)) throw new Violation(`${what} answers ${answer.refused}: ${answer.text}`);
  return answer.value;
}

export function require(holds: boolean, seen: string): asserts holds {
  if (!holds) throw new Violation(seen);
}

/** kube-apiserver's `timeout` where nothing else is set. */
export const TIMEOUT_MS = 3_000;
/** What kube-apiserver sends: the seed of data encryption keys. */
export const SEED_BYTES = 32;

// The result of one run of `kms-pkcs11 bench`, with everything it depends on: its JSON document.
import type { CoreFigure } from "./core.js";
import type { Comparison, EndpointFigure } from "./endpoints.js";
import type { Machine } from "./machine.js";
import type { TokenFigure } from "./token.js";

export interface BenchSettings {
  readonly concurrency: readonly number[];
  readonly sessions: readonly number[];
  readonly repetitions: number;
  readonly turnMs: number;
  /** Lengths for the core. */
  readonly bytes: readonly number[];
  /** Number of ciphertexts in a turn that decrypts each once. */
  readonly seeds: number;
}

export interface BenchResult {
  readonly version: string;
  readonly machine: Machine;
  readonly settings: BenchSettings;
  readonly core: readonly CoreFigure[];
  readonly token: readonly TokenFigure[];
  readonly plugin: readonly EndpointFigure[];
  readonly versus: readonly Comparison[];
}

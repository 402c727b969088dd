// How much each case of the benchmark measures: the full run, and a quick one that only shows that everything works.

export interface Sizes {
  /** Turns of each plugin in each case beside the reference plugin, and their length in ms. */
  readonly repetitions: number;
  readonly turnMs: number;
  /** Length of the turn before, which is not measured: code is compiled in it. */
  readonly warmMs: number;
  /** Cold start: DEK seeds, repetitions, and delays of each call into the HSM in ms. */
  readonly seeds: number;
  readonly coldRepetitions: number;
  readonly delaysMs: readonly number[];
  /** Starts of the plugin and of each short command. */
  readonly starts: number;
  /** Failures of the first of two tokens, of each kind. */
  readonly failovers: number;
  /** How long every call hangs before it ends, in ms: one measurement each. */
  readonly hangsMs: readonly number[];
  /** How long Status is asked for while every call hangs, in ms. */
  readonly statusMs: number;
  /** Requests of each kind whose calls into the HSM are counted. */
  readonly countedRequests: number;
  /** Requests to each plugin whose memory is measured. */
  readonly memoryRequests: number;
}

export const FULL: Sizes = {
  repetitions: 15,
  turnMs: 300,
  warmMs: 1_500,
  seeds: 1_000,
  coldRepetitions: 3,
  delaysMs: [0, 1, 2, 5],
  starts: 11,
  failovers: 5,
  hangsMs: [3_000, 5_000, 10_000, 15_000, 20_000],
  statusMs: 5_000,
  countedRequests: 200,
  memoryRequests: 1_000_000,
};

export const QUICK: Sizes = {
  repetitions: 2,
  turnMs: 50,
  warmMs: 300,
  seeds: 50,
  coldRepetitions: 1,
  delaysMs: [0, 2],
  starts: 2,
  failovers: 1,
  hangsMs: [1_000],
  statusMs: 1_000,
  countedRequests: 20,
  memoryRequests: 10_000,
};

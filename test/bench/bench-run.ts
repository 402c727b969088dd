// What every case of the benchmark gets: the plugins to measure, the load generator, how much to measure, and where the
// results go.

import type { Results } from "./results.js";
import type { Sizes } from "./sizes.js";
import type { LoadGenerator } from "./load-generator.js";
import type { Stage } from "./stage.js";

export interface BenchRun {
  readonly stage: Stage;
  readonly load: LoadGenerator;
  readonly sizes: Sizes;
  readonly results: Results;
}

/** Returns the list rotated by `by`, so that no subject is always measured first. */
export function rotated<T>(all: readonly T[], by: number): T[] {
  const at = by % all.length;
  return [...all.slice(at), ...all.slice(0, at)];
}

// One reading of a token's keyring on one host, asked for slice by slice: requests are served between two of them, and
// what limits a reading is that it gets no further, not how long it takes in all.
import { KmsError } from "../../errors.js";
import type { HostProcess } from "./host-process.js";
import type { ReadingProgress, ReadRequest, ReadSlice, TokenKeys } from "../wire-calls.js";

/** Asks for one slice. @param limitMs after which the host has hung */
export type AskForSlice = (request: ReadRequest, limitMs: number) => Promise<ReadSlice>;

/** A slice may take this many times as long as the slowest that has ended well. */
const SLACK = 3;

/** How long a slice of this token's readings may take: a search can only be waited for, and takes what it takes. */
export class SlicePace {
  readonly #leastMs: number;
  readonly #mostMs: number;
  #slowestMs = 0;

  constructor(leastMs: number, mostMs: number) {
    this.#leastMs = leastMs;
    this.#mostMs = Math.max(leastMs, mostMs);
  }

  get limitMs(): number {
    return Math.min(this.#mostMs, Math.max(this.#leastMs, SLACK * this.#slowestMs));
  }

  note(tookMs: number): void {
    this.#slowestMs = Math.max(this.#slowestMs, tookMs);
  }
}

/**
 * Reads to the end.
 * @throws KmsError that says how far it came, where the host hung over it
 */
export async function readInSlices(
  host: HostProcess,
  pace: SlicePace,
  limitMs: number,
  ask: AskForSlice,
  onProgress: (progress: ReadingProgress) => void = () => undefined,
): Promise<TokenKeys> {
  const reached = { seen: 0, objects: 0 };
  try {
    for (let resume = false; ; resume = true) {
      const askedAt = performance.now();
      const slice = await ask({ resume }, limitMs);
      pace.note(performance.now() - askedAt);
      if (slice.done) return slice;
      reached.seen = slice.seen;
      reached.objects = slice.objects;
      onProgress(slice);
    }
  } catch (error) {
    throw host.endCause === "hang" ? stuck(reached, limitMs, error) : error;
  }
}

function stuck({ seen, objects }: ReadingProgress, limitMs: number, cause: unknown): KmsError {
  const where =
    objects === 0 ? "in the search for secret keys" : `after ${count(seen)} of ${count(objects)} secret keys`;
  return new KmsError(
    "HSM_UNAVAILABLE",
    `reading the token came no further for ${seconds(limitMs)} ${where}; if it is slow, raise hsm.startTimeout, or give the KEK a partition of its own`,
    cause,
  );
}

/** A number as people read it, such as "12,000". */
export function count(objects: number): string {
  return objects.toLocaleString("en-US");
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
}

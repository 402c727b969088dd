// One reading of a token's keyring on one host, requested slice by slice: requests are served between two slices, and a
// reading is limited by the time without progress, not by its total time.
import { KmsError } from "../../errors.js";
import type { HostProcess } from "./host-process.js";
import type { ReadingProgress, ReadRequest, ReadSlice, KeyringReading } from "../wire-calls.js";

/** Requests one slice. @param limitMs after which the host counts as hung */
export type AskForSlice = (request: ReadRequest, limitMs: number) => Promise<ReadSlice>;

/** A slice may take this many times as long as the slowest one that succeeded. */
const SLACK = 3;

/** Limits the duration of a slice of this token's readings. A search is one call and cannot be divided into slices. */
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
 * Makes a whole reading and returns it.
 * @throws KmsError that says how far the reading came, if the host hung
 */
export async function readInSlices(
  host: HostProcess,
  pace: SlicePace,
  limitMs: number,
  ask: AskForSlice,
  onProgress: (progress: ReadingProgress) => void = () => undefined,
): Promise<KeyringReading> {
  const reached = { seen: 0, objects: 0 };
  try {
    for (let resume = false; ; resume = true) {
      const askedAt = performance.now();
      const slice = await ask({ resume }, limitMs);
      pace.note(performance.now() - askedAt);
      if (slice.done) {
        host.lanes.noteOperation(slice.operationMs);
        return slice;
      }
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
    `reading the token made no progress for ${seconds(limitMs)} ${where}; if the token is slow, raise hsm.startTimeout, or give the KEK a partition of its own`,
    cause,
  );
}

/** Returns a number with separators, such as "12,000". */
export function count(objects: number): string {
  return String(objects).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Returns a duration in seconds, such as "2.5 s". */
export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
}

// One scan of all keys in an interval at one revision, with several range requests at a time. Proves that nothing is
// missing and nothing comes twice: the pieces cover the interval without overlap (interval-plan.ts), every answer is checked
// against its request, and the number of keys must be the one that etcd counted at the beginning.
import { KmsError } from "../errors.js";
import type { EtcdClient } from "./client.js";
import { IntervalPlan, type Interval, type Piece } from "./interval-plan.js";
import type { RangePage } from "./range-response.js";

export interface RangeObserver {
  /** Receives the number of keys, or an estimate: at the start, and whenever it is corrected. */
  total?(objects: number, isEstimate: boolean): void;
  /** The revision was compacted during the scan: the remaining keys are read at `revision`. */
  compacted?(revision: number): void;
}

/** The revisions at which keys were read; they differ only if the first was compacted during the scan. */
export interface Revisions {
  readonly first: number;
  readonly last: number;
}

interface Answer {
  readonly piece: Piece;
  /** The limit that was requested in the end. */
  readonly limit: number;
  readonly page: RangePage;
}

export class RangeScan {
  readonly #client: Pick<EtcdClient, "range">;
  readonly #interval: Interval;
  readonly #observer: RangeObserver;
  readonly #plan: IntervalPlan;
  /** The answers that the caller has not received, in the order of the requests. */
  readonly #waiting = new Map<Piece, Promise<Answer>>();
  #revisions: Revisions | undefined;
  #moving: Promise<void> | undefined;
  #clusterId: bigint | undefined;
  /** The number of keys that etcd counted at the first revision. */
  #counted = 0;
  #read = 0;

  constructor(client: Pick<EtcdClient, "range">, interval: Interval, observer: RangeObserver) {
    this.#client = client;
    this.#interval = interval;
    this.#observer = observer;
    this.#plan = new IntervalPlan(interval);
  }

  /** The revisions so far; undefined before the first answer. */
  get revisions(): Revisions | undefined {
    return this.#revisions;
  }

  /**
   * Yields all pages, each key once. Requests continue while a page is processed, so `parallel` answers and one page are in
   * memory at a time, however slow the caller is.
   * @param parallel the number of requests at a time; with 1, pages come in the order of their keys
   * @throws KmsError PEER_UNREACHABLE if etcd does not answer, or not completely
   */
  async *pages(parallel: number): AsyncGenerator<RangePage, void> {
    this.#request(1);
    while (this.#waiting.size > 0) {
      const { piece, limit, page } = await Promise.race(this.#waiting.values());
      this.#waiting.delete(piece);
      this.#plan.answered(piece, limit, page);
      this.#read += page.length;
      this.#request(parallel);
      if (page.length > 0) yield page;
    }
    this.#requireAll();
  }

  #request(parallel: number): void {
    while (this.#waiting.size < parallel) {
      const piece = this.#plan.next();
      if (piece === undefined) return;
      const answer = this.#fetch(piece);
      // Awaited after a page has been processed; until then a failure must not count as unhandled.
      answer.catch(() => undefined);
      this.#waiting.set(piece, answer);
    }
  }

  /** Fetches a page: a smaller one if it does not fit a message, at the newest revision if its own was compacted. */
  async #fetch(piece: Piece): Promise<Answer> {
    let { limit } = piece;
    for (;;) {
      const revision = this.#revisions?.last;
      const page = await this.#client.range({
        key: piece.from,
        end: piece.to,
        limit,
        ...(revision !== undefined && { revision }),
      });
      if (typeof page !== "string") {
        this.#requireCluster(page);
        requireAnswer(piece, limit, page, revision);
        if (revision === undefined) this.#begin(page);
        return { piece, limit, page };
      }
      if (page === "compacted") await this.#moveFrom(revision);
      else if (limit > 1) limit = Math.ceil(limit / 8);
      else throw unusable("it cannot return the next object, which is too large for a message");
    }
  }

  #begin({ revision, count }: RangePage): void {
    this.#revisions = { first: revision, last: revision };
    this.#counted = count;
    this.#observer.total?.(count, false);
  }

  /** Continues at the newest revision, once for all requests whose revision was compacted. */
  async #moveFrom(compacted: number | undefined): Promise<void> {
    if (compacted !== this.#revisions?.last) return;
    this.#moving ??= this.#move();
    await this.#moving;
  }

  async #move(): Promise<void> {
    const { from, to } = this.#interval;
    const page = await this.#client.range({ key: from, end: to, limit: 0, countOnly: true });
    if (typeof page === "string") throw unusable(`it does not report its revision: ${page}`);
    this.#requireCluster(page);
    const { revision, count } = page;
    this.#revisions = { first: this.#revisions?.first ?? revision, last: revision };
    this.#moving = undefined;
    this.#observer.compacted?.(revision);
    this.#observer.total?.(count, false);
  }

  /** A revision means the same keys only within one cluster. */
  #requireCluster({ clusterId }: RangePage): void {
    this.#clusterId ??= clusterId;
    if (clusterId === this.#clusterId) return;
    throw new KmsError(
      "CONFIG_INVALID",
      "--endpoints: belong to different clusters; give the endpoints of one cluster",
    );
  }

  #requireAll(): void {
    if (this.#revisions?.first !== this.#revisions?.last || this.#read === this.#counted) return;
    throw unusable(`it counted ${this.#counted} keys and returned ${this.#read}`);
  }
}

/** Throws PEER_UNREACHABLE unless the answer is complete and for this request. */
function requireAnswer(
  { from, to }: Piece,
  limit: number,
  { length, count, more, first, last, revision }: RangePage,
  requested: number | undefined,
): void {
  const isComplete = more ? length > 0 && length < count : length === count;
  const isInside = length === 0 || (first.compare(from) >= 0 && last.compare(to) < 0);
  if (isComplete && isInside && length <= limit && revision >= (requested ?? 1)) return;
  throw unusable(
    `it answered a range incompletely or for another one (${length} of ${count} keys, revision ${revision})`,
  );
}

function unusable(what: string): KmsError {
  return new KmsError("PEER_UNREACHABLE", `etcd's answer cannot be used: ${what}; repeat the command`);
}

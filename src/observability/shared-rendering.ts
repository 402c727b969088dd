// What the HTTP endpoints show, rendered for everybody who asks at the same time, and seldom enough that nobody who may
// ask can keep the plugin busy with it. Who asks gets what is true after the question, never an earlier answer.

/** Of each second, on the average: what all renderings together may take, in ms. */
const MS_PER_SECOND = 5;
/** What may be taken at once after a quiet time, in ms. */
const BURST_MS = 50;
/** Longest that anybody waits for a rendering to begin, in ms. */
const MAX_WAIT_MS = 1_000;

/** The time that renderings may take, shared by all of them. */
export class RenderingBudget {
  #leftMs = BURST_MS;
  #at = performance.now();

  /** Returns how long to wait until there is some of it, in ms. */
  get waitMs(): number {
    const now = performance.now();
    this.#leftMs = Math.min(BURST_MS, this.#leftMs + ((now - this.#at) * MS_PER_SECOND) / 1_000);
    this.#at = now;
    return this.#leftMs > 0 ? 0 : Math.min(MAX_WAIT_MS, (-this.#leftMs * 1_000) / MS_PER_SECOND);
  }

  spend(ms: number): void {
    this.#leftMs -= ms;
  }
}

interface Waiting<T> {
  readonly done: (rendered: T) => void;
  readonly failed: (error: unknown) => void;
}

export class SharedRendering<T> {
  readonly #render: () => T | Promise<T>;
  readonly #budget: RenderingBudget;
  #waiting = new Set<Waiting<T>>();
  #timer: NodeJS.Timeout | undefined;
  #rendering = false;

  constructor(render: () => T | Promise<T>, budget: RenderingBudget) {
    this.#render = render;
    this.#budget = budget;
  }

  /** Resolves to a rendering that begins after this call; never, once `signal` tells that nobody waits for it any more. */
  get(signal: AbortSignal): Promise<T> {
    return new Promise((done, failed) => {
      const waiting = { done, failed };
      this.#waiting.add(waiting);
      signal.addEventListener("abort", () => this.#waiting.delete(waiting), { once: true });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#rendering || this.#waiting.size === 0) return;
    this.#timer = setTimeout(() => void this.#renderNow(), this.#budget.waitMs).unref();
  }

  async #renderNow(): Promise<void> {
    this.#timer = undefined;
    if (this.#waiting.size === 0) return;
    const waiting = this.#waiting;
    this.#waiting = new Set();
    this.#rendering = true;
    const startedAt = performance.now();
    try {
      const rendered = await this.#render();
      for (const { done } of waiting) done(rendered);
    } catch (error) {
      for (const { failed } of waiting) failed(error);
    } finally {
      this.#budget.spend(performance.now() - startedAt);
      this.#rendering = false;
      this.#schedule();
    }
  }
}

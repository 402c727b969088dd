// Renders the pages of the HTTP endpoints. Simultaneous requests share one rendering, and the renderings of a page
// share a budget of time, so that no user can keep the plugin busy. A rendering always begins after the request, so no
// answer is outdated.

/** Average time per second that the renderings may take, in ms. */
const MS_PER_SECOND = 5;
/** Time that renderings may take at once after a quiet period, in ms. */
const BURST_MS = 50;
/** Longest wait for a rendering to begin, in ms. */
const MAX_WAIT_MS = 1_000;

/** The time that the renderings of a page may take. */
export class RenderingBudget {
  #leftMs = BURST_MS;
  #at = performance.now();

  /** Returns how long to wait until time is available, in ms. */
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

/** Shares one rendering of a page among simultaneous requests. */
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

  /** Resolves to a rendering that begins after this call; never resolves once `signal` aborts. */
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

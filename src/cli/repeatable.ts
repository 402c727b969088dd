// Work that may be requested at any time: before it can begin, and while it runs. It never runs twice at a time, and a
// request during a run causes one more run.

/** Runs work on request. */
export class Repeatable {
  #work: (() => Promise<void>) | undefined;
  #isRequested = false;
  #isRunning = false;

  /** Requests a run; it waits for `begin` and for the run in progress. */
  request(): void {
    this.#isRequested = true;
    void this.#run();
  }

  /** Sets the work, which must not throw, and runs it if a run has been requested. */
  begin(work: () => Promise<void>): void {
    this.#work = work;
    void this.#run();
  }

  async #run(): Promise<void> {
    if (this.#work === undefined || this.#isRunning) return;
    this.#isRunning = true;
    while (this.#isRequested) {
      this.#isRequested = false;
      await this.#work();
    }
    this.#isRunning = false;
  }
}

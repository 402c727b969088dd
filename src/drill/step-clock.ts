// The steps of a drill with their times. A step that fails does not end the drill: those that need it are not rehearsed, and
// the report says why.
import { KmsError } from "../errors.js";
import { DRILL_STEPS, type DrillReport, type DrillStep } from "../evidence/drill-report.js";
import { fileError } from "../files/file-error.js";

type StepResult = DrillReport["steps"][number];

/** The finding of a step that finished. */
export interface Found {
  readonly detail: string;
  /** Something could not be read. */
  readonly failed?: boolean;
}

/** Measures the steps, and remembers the first error. */
export class StepClock {
  readonly #done = new Map<DrillStep, StepResult>();
  readonly #onBegin: (step: DrillStep) => void;
  readonly #signal: AbortSignal;
  #error: KmsError | undefined;

  /** @param onBegin called when a step begins */
  constructor(signal: AbortSignal, onBegin: (step: DrillStep) => void) {
    this.#signal = signal;
    this.#onBegin = onBegin;
  }

  /**
   * The error of the first step that did not finish, or an interrupt; undefined if an earlier step found something amiss, of
   * which the error may be the consequence.
   */
  get error(): KmsError | undefined {
    return this.#error;
  }

  /** All steps in their order. */
  get results(): StepResult[] {
    return DRILL_STEPS.map((step) => this.#done.get(step) ?? notRehearsed(step, "an earlier step failed"));
  }

  /** Whether a step finished and found no fault. */
  passed(step: DrillStep): boolean {
    return this.#done.get(step)?.outcome === "passed";
  }

  /** Records why a step is not rehearsed. */
  skip(step: DrillStep, why: string): void {
    this.#done.set(step, notRehearsed(step, why));
  }

  /** Runs a step and returns its result; undefined if it failed or the drill is interrupted. Never throws. */
  async run<T extends Found>(step: DrillStep, work: () => Promise<T>): Promise<T | undefined> {
    const end = this.#begin(step);
    try {
      const result = await untilAborted(work, this.#signal);
      end(result);
      return result;
    } catch (error) {
      end(fileError(error) ?? KmsError.from(error));
      return undefined;
    }
  }

  /**
   * Runs a step that opens something for the steps that follow.
   * @param describe returns the result of the step, or throws if what was opened cannot be used
   * @param use runs the steps that follow
   */
  async open<T>(
    step: DrillStep,
    open: (use: (opened: T) => Promise<void>) => Promise<void>,
    describe: (opened: T) => Found,
    use: (opened: T) => Promise<void>,
  ): Promise<void> {
    const end = this.#begin(step);
    try {
      if (this.#signal.aborted) throw interruption();
      await open(async (opened) => {
        end(describe(opened));
        await use(opened);
      });
    } catch (error) {
      if (this.#done.has(step)) throw error;
      end(fileError(error) ?? KmsError.from(error));
    }
  }

  /** Returns what ends the step, once. */
  #begin(step: DrillStep): (result: Found | KmsError) => void {
    this.#onBegin(step);
    const begunAt = performance.now();
    return (result) => {
      if (this.#done.has(step)) return;
      const failed = result instanceof KmsError || result.failed === true;
      const isFirst = this.results.every(({ outcome }) => outcome !== "failed");
      if (result instanceof KmsError && (isFirst || result.code === "CANCELLED")) this.#error ??= result;
      this.#done.set(step, {
        step,
        outcome: failed ? "failed" : "passed",
        seconds: Math.round(performance.now() - begunAt) / 1000,
        detail: result instanceof KmsError ? result.message : result.detail,
      });
    };
  }
}

function notRehearsed(step: DrillStep, detail: string): StepResult {
  return { step, outcome: "not rehearsed", seconds: null, detail };
}

function interruption(): KmsError {
  return new KmsError("CANCELLED", "interrupted");
}

/** Waits for the work, or until the drill is interrupted. @throws KmsError CANCELLED */
async function untilAborted<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) throw interruption();
  let stop: () => void = () => undefined;
  const interrupted = new Promise<never>((_, reject) => {
    const fail = (): void => {
      reject(interruption());
    };
    signal.addEventListener("abort", fail);
    stop = () => {
      signal.removeEventListener("abort", fail);
    };
  });
  try {
    return await Promise.race([work(), interrupted]);
  } finally {
    stop();
  }
}

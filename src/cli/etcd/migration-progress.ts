// The progress of a migration on the terminal: surveys, which read all objects, and passes, which handle some, in turn.
import type { Progress } from "../../admin/operator.js";
import type { CountObserver } from "../../etcd/count-objects.js";
import type { MigrationObserver } from "../../etcd/migration.js";
import type { Terminal } from "../output.js";
import { startProgress } from "../progress.js";

export class MigrationProgress implements MigrationObserver {
  readonly #terminal: Terminal;
  #survey: Progress | undefined;
  #pass: Progress | undefined;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  surveys(): CountObserver {
    this.end();
    const progress = startProgress(this.#terminal, "objects read", 0);
    this.#survey = progress;
    let read = 0;
    return {
      total: (objects, isEstimate) => {
        progress.update(read, objects, isEstimate);
      },
      counted: (objects) => {
        progress.update((read = objects));
      },
    };
  }

  handled(done: number, toHandle: number): void {
    if (this.#pass === undefined) {
      this.end();
      this.#pass = startProgress(this.#terminal, "objects handled", toHandle);
    }
    this.#pass.update(done, toHandle);
  }

  /** Removes the display. */
  end(): void {
    this.#survey?.end();
    this.#pass?.end();
    [this.#survey, this.#pass] = [undefined, undefined];
  }
}

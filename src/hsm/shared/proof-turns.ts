// The proofs of many clusters on one token. A few are made at a time, so that each has its whole time limit: if all began at
// once, the last would fail because the others kept the token busy. If the token is away, those that wait learn it from
// those that failed.
import { KmsError } from "../../errors.js";
import { meansHsmAway } from "../away.js";

/** Number of failures in a row after which the token is away; a single KEK may hang by itself. */
const FAILURES = 2;

interface Waiting {
  readonly begin: () => void;
  readonly fail: (error: KmsError) => void;
}

/** Makes proofs, a limited number at a time, in the order in which they are requested. */
export class ProofTurns {
  readonly #atOnce: () => number;
  readonly #waiting: Waiting[] = [];
  #running = 0;
  #failures = 0;

  /** @param atOnce returns the number of proofs that may be made at the same time now; at least 1 */
  constructor(atOnce: () => number) {
    this.#atOnce = atOnce;
  }

  /** Makes a proof in its turn. @throws KmsError of the proof, or of those before it if the token is away */
  async make<T>(proof: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#atOnce() || this.#waiting.length > 0) {
      await new Promise<void>((begin, fail) => {
        this.#waiting.push({ begin, fail });
        this.#beginSome();
      });
    } else this.#running++;
    try {
      const result = await proof();
      this.#failures = 0;
      return result;
    } catch (thrown) {
      this.#note(KmsError.from(thrown));
      throw thrown;
    } finally {
      this.#running--;
      this.#beginSome();
    }
  }

  #note(error: KmsError): void {
    this.#failures = meansHsmAway(error) ? this.#failures + 1 : 0;
    if (this.#failures < FAILURES) return;
    for (const { fail } of this.#waiting.splice(0)) fail(error);
  }

  #beginSome(): void {
    while (this.#running < this.#atOnce()) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#running++;
      next.begin();
    }
  }
}

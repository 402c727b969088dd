// One request over several tokens, within one deadline: the next is asked when one fails or is late, and the first
// answer wins. What the others still bring is wiped, and what they have not sent yet is not sent.
import { KmsError } from "../../errors.js";
import type { Caller } from "../port.js";

export type Ask = (caller: Caller) => Promise<Buffer>;

export interface HedgeOptions {
  /** In the order in which they are asked. */
  readonly asks: readonly Ask[];
  readonly caller: Caller;
  /** The next is asked when an answer has not come within this, in ms. */
  readonly lateMs: number;
  /** From now to the end of the request, in ms. */
  readonly limitMs: number;
  /** Whether an error is the answer: asking elsewhere would change nothing. */
  readonly isFinal: (error: KmsError) => boolean;
  /** Called for one that failed, other than by the answer, or was still asked when a later one answered. @param asked which of `asks` */
  readonly onPassedOver: (asked: number) => void;
}

/** @throws KmsError the final one if there was any, else what the last one failed with; DEADLINE */
export function hedge(options: HedgeOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    new HedgedRequest(options, resolve, reject).askNext();
  });
}

class HedgedRequest {
  readonly #options: HedgeOptions;
  readonly #resolve: (body: Buffer) => void;
  readonly #reject: (error: KmsError) => void;
  readonly #deadline: NodeJS.Timeout;
  #late: NodeJS.Timeout | undefined;
  #asked = 0;
  readonly #running = new Set<number>();
  #decided = false;

  constructor(options: HedgeOptions, resolve: (body: Buffer) => void, reject: (error: KmsError) => void) {
    this.#options = options;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#deadline = setTimeout(() => {
      this.#fail(new KmsError("DEADLINE", `no token answered within ${options.limitMs.toFixed(0)} ms`));
    }, options.limitMs);
  }

  askNext(): void {
    const { asks, lateMs } = this.#options;
    const asked = this.#asked;
    const ask = asks[asked];
    if (this.#decided || ask === undefined) return;
    this.#asked++;
    this.#running.add(asked);
    clearTimeout(this.#late);
    this.#late = setTimeout(() => {
      this.askNext();
    }, lateMs);
    ask(this.#caller()).then(
      (body) => {
        this.#succeed(asked, body);
      },
      (thrown: unknown) => {
        this.#failed(asked, KmsError.from(thrown));
      },
    );
  }

  /** The request's caller, who also counts as gone when another token has answered. */
  #caller(): Caller {
    const { caller } = this.#options;
    const isDecided = (): boolean => this.#decided;
    return {
      get cancelled() {
        return isDecided() || caller.cancelled;
      },
      ...(caller.startedAt !== undefined && { startedAt: caller.startedAt }),
      hsmCalls: caller.hsmCalls,
    };
  }

  #succeed(asked: number, body: Buffer): void {
    this.#running.delete(asked);
    if (this.#decided) {
      body.fill(0);
      return;
    }
    this.#decide();
    for (const other of this.#running) if (other < asked) this.#options.onPassedOver(other);
    this.#resolve(body);
  }

  #failed(asked: number, error: KmsError): void {
    this.#running.delete(asked);
    if (this.#decided) return;
    if (this.#options.isFinal(error)) {
      this.#fail(error);
      return;
    }
    this.#options.onPassedOver(asked);
    if (this.#asked < this.#options.asks.length) this.askNext();
    else if (this.#running.size === 0) this.#fail(error);
  }

  #fail(error: KmsError): void {
    if (this.#decided) return;
    this.#decide();
    this.#reject(error);
  }

  #decide(): void {
    this.#decided = true;
    clearTimeout(this.#deadline);
    clearTimeout(this.#late);
  }
}

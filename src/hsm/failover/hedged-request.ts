// Makes one request to several tokens within one deadline: the next token is asked when one fails or is late, and the
// first answer is returned. Later answers are wiped, and calls that have not begun by then are not made. hsm/hedging.ts
// says what bounds the number of calls.
import { KmsError } from "../../errors.js";
import type { Caller } from "../port.js";

/** Makes the request to one token. The caller is cancelled once another token has answered. */
export type Ask = (caller: Caller) => Promise<Buffer>;

/** The calls for one request, their timing, and which errors end it. */
export interface HedgeOptions {
  /** The calls, in the order in which they are made. */
  readonly asks: readonly Ask[];
  readonly caller: Caller;
  /** Time without an answer after which the next call is made, in ms. */
  readonly lateMs: number;
  /** Time from now until the request ends, in ms. */
  readonly limitMs: number;
  /** Returns whether an error is final, so that asking another token would not help. */
  readonly isFinal: (error: KmsError) => boolean;
  /**
   * Called for each token that failed, except with the final answer, and for each that was overtaken by one asked later.
   * @param asked index in `asks`
   */
  readonly onPassedOver: (asked: number) => void;
}

/** Returns the first answer, or throws the final error, otherwise the last error, or DEADLINE. */
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

  /** Returns the request's caller, which also counts as cancelled once the request is decided. */
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

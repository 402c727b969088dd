// One decryption for which several requests wait. Each gets a copy of its own; the last one zeroes the original.
import type { Caller } from "../hsm/port.js";

/** A load in progress, with all callers that wait for it. It is cancelled only when all of them are. */
export class SharedLoad implements Caller {
  readonly callers: Caller[] = [];
  readonly startedAt: number;
  readonly hsmCalls: Caller["hsmCalls"];
  waiting = 0;
  readonly plaintext: Promise<Buffer>;

  /**
   * @param ended called before the first caller continues, so that nobody joins a load whose plaintext is being zeroed
   */
  constructor(first: Caller, load: (caller: Caller) => Promise<Buffer>, ended: () => void) {
    this.callers.push(first);
    this.startedAt = first.startedAt ?? performance.now();
    this.hsmCalls = first.hsmCalls;
    this.plaintext = load(this).finally(ended);
  }

  get cancelled(): boolean {
    return this.callers.every((caller) => caller.cancelled);
  }

  /** Returns a copy for one more caller; the last caller zeroes the original. */
  async copy(): Promise<Buffer> {
    this.waiting++;
    const plaintext = await this.plaintext;
    const copy = Buffer.from(plaintext);
    if (--this.waiting === 0) plaintext.fill(0);
    return copy;
  }
}

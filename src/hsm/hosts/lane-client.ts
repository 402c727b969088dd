// The plugin's end of one lane: requests out, replies in, in order, over a socketpair whose other end is a
// thread that blocks in the vendor library. Knows no PKCS#11 and no policy; measures how long one request
// keeps the token busy.
import type { Duplex } from "node:stream";
import { FrameReader, MAX_FRAME_BYTES, ReplyKind, decodeFailure } from "../wire.js";
import type { WireFailure } from "../wire-calls.js";

export type Reply =
  /** `repeated`: the token had altered the first result. */
  | { readonly ok: true; readonly body: Buffer; readonly repeated?: true }
  | { readonly ok: false; readonly failure: WireFailure };

interface Sent {
  readonly sentAt: number;
  readonly control: boolean;
  readonly done: (reply: Reply) => void;
}

/** Requests of which the quickest tells how fast the token is; a busy machine slows single ones down. */
const WINDOW = 16;

export class LaneClient {
  readonly #stream: Duplex;
  readonly #sent = new Map<number, Sent>();
  #nextId = 1;
  #controls = 0;
  #lastReplyAt = 0;
  #serviceMs = 0;
  #quickestMs = Infinity;
  #measured = 0;
  #gone: WireFailure | undefined;

  /** @param onProtocolError called once when the other end does not keep to the wire format */
  constructor(stream: Duplex, onProtocolError: () => void) {
    this.#stream = stream;
    const reader = new FrameReader();
    stream.on("data", (chunk: Buffer) => {
      try {
        reader.push(chunk, (id, kind, body) => {
          this.#receive(id, kind, body);
        });
      } catch {
        onProtocolError();
      }
    });
    // A broken pipe shows as the end of the process, which is watched for.
    stream.on("error", () => undefined);
  }

  /** A request that may take long is with the token; others are better off elsewhere. */
  get busyWithControl(): boolean {
    return this.#controls > 0;
  }

  get load(): number {
    return this.#sent.size;
  }

  /** Least time that one of the last requests kept this lane busy, in ms; 0 before the first few replies. */
  get serviceMs(): number {
    return this.#serviceMs;
  }

  /** When the request that the token works on now was sent; undefined when it works on none. */
  get busySince(): number | undefined {
    const [oldest] = this.#sent.values();
    return oldest === undefined ? undefined : Math.max(oldest.sentAt, this.#lastReplyAt);
  }

  /** The same where that request is an Encrypt or Decrypt: control calls have longer limits of their own. */
  get cryptSince(): number | undefined {
    const [oldest] = this.#sent.values();
    return oldest?.control === false ? this.busySince : undefined;
  }

  /** @param build makes the frame; it is wiped once it is written */
  send(build: (id: number) => Buffer, done: (reply: Reply) => void, control = false): void {
    if (this.#gone !== undefined) {
      done({ ok: false, failure: this.#gone });
      return;
    }
    const id = this.#nextId;
    this.#nextId = (id % 0xffffffff) + 1;
    const frame = build(id);
    if (frame.length - 4 > MAX_FRAME_BYTES) throw new RangeError("request longer than a frame may be");
    this.#sent.set(id, { sentAt: performance.now(), done, control });
    if (control) this.#controls++;
    this.#stream.write(frame, () => frame.fill(0));
  }

  /** Ends every request in flight, and every later one, with this failure. */
  abandon(failure: WireFailure): void {
    if (this.#gone !== undefined) return;
    this.#gone = failure;
    const waiting = [...this.#sent.values()];
    this.#sent.clear();
    this.#controls = 0;
    for (const { done } of waiting) done({ ok: false, failure });
  }

  #receive(id: number, kind: number, body: Buffer): void {
    const sent = this.#sent.get(id);
    if (sent === undefined) return;
    // A reply that cannot be read leaves its request waiting for what becomes of the host.
    const reply: Reply =
      kind === ReplyKind.failed
        ? { ok: false, failure: decodeFailure(body) }
        : { ok: true, body: Buffer.from(body), ...(kind === ReplyKind.repeated && { repeated: true }) };
    this.#sent.delete(id);
    this.#measure(sent);
    if (sent.control) this.#controls--;
    sent.done(reply);
  }

  #measure({ sentAt, control }: Sent): void {
    const now = performance.now();
    const tookMs = now - Math.max(sentAt, this.#lastReplyAt);
    this.#lastReplyAt = now;
    if (control) return;
    this.#quickestMs = Math.min(this.#quickestMs, tookMs);
    this.#measured++;
    if (this.#measured % WINDOW !== 0 && this.#measured !== WINDOW / 4) return;
    this.#serviceMs = this.#quickestMs;
    this.#quickestMs = Infinity;
  }
}

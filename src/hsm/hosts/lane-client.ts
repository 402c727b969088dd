// The plugin's end of one lane: sends requests and receives their replies, in order, over a socketpair whose other end
// is a thread that blocks in the vendor library. It knows neither PKCS#11 nor policy, and measures how long one request
// keeps the token busy.
import type { Duplex } from "node:stream";
import { FrameReader, MAX_FRAME_BYTES, ReplyKind } from "../wire.js";
import type { WireFailure } from "../wire-calls.js";
import { decodeFailure } from "../wire-replies.js";

/** The reply of a token host to one request. */
export type Reply =
  /** `repeated`: the token altered the first result, and the second one was right. */
  | { readonly ok: true; readonly body: Buffer; readonly repeated?: true }
  | { readonly ok: false; readonly failure: WireFailure };

interface Sent {
  readonly sentAt: number;
  readonly control: boolean;
  readonly done: (reply: Reply) => void;
}

/** Number of recent measurements whose shortest shows the token's speed; a busy machine slows single requests down. */
const WINDOW = 16;

/** Sends requests over one lane and matches the replies to them. */
export class LaneClient {
  readonly #stream: Duplex;
  readonly #sent = new Map<number, Sent>();
  /** The requests whose replies have just been received together. */
  readonly #answered: Sent[] = [];
  #nextId = 1;
  #controls = 0;
  #lastReplyAt = 0;
  #serviceMs = 0;
  #quickestMs = Infinity;
  #measured = 0;
  #gone: WireFailure | undefined;

  /** @param onProtocolError called once when the other end violates the wire format */
  constructor(stream: Duplex, onProtocolError: () => void) {
    this.#stream = stream;
    const reader = new FrameReader();
    stream.on("data", (chunk: Buffer) => {
      const earlierReplyAt = this.#lastReplyAt;
      try {
        reader.push(chunk, (id, kind, body) => {
          this.#receive(id, kind, body);
        });
        this.#measure(this.#answered.splice(0), earlierReplyAt);
      } catch {
        onProtocolError();
      }
    });
    // A broken pipe means that the process has ended, which HostProcess handles.
    stream.on("error", () => undefined);
  }

  /** Whether the token is busy with a control call, which may take long; other requests should use another lane. */
  get busyWithControl(): boolean {
    return this.#controls > 0;
  }

  /** Number of requests without a reply. */
  get load(): number {
    return this.#sent.size;
  }

  /** Shortest time for which one of the last requests kept this lane busy, in ms; 0 before the first few replies. */
  get serviceMs(): number {
    return this.#serviceMs;
  }

  /** When the token began its current request, by performance.now(); undefined if there is none. */
  get busySince(): number | undefined {
    const [oldest] = this.#sent.values();
    return oldest === undefined ? undefined : Math.max(oldest.sentAt, this.#lastReplyAt);
  }

  /** Like `busySince`, but only for an Encrypt or Decrypt: control calls have longer limits of their own. */
  get cryptSince(): number | undefined {
    const [oldest] = this.#sent.values();
    return oldest?.control === false ? this.busySince : undefined;
  }

  /** Sends a request; `done` is called once. @param build makes the frame, which is wiped once it is written */
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

  /** Fails every request in progress, and every later one, with this failure. */
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
    // A reply that cannot be decoded leaves its request waiting until the host ends.
    const reply: Reply =
      kind === ReplyKind.failed
        ? { ok: false, failure: decodeFailure(body) }
        : { ok: true, body: Buffer.from(body), ...(kind === ReplyKind.repeated && { repeated: true }) };
    this.#sent.delete(id);
    this.#answered.push(sent);
    this.#lastReplyAt = performance.now();
    if (sent.control) this.#controls--;
    sent.done(reply);
  }

  /**
   * Divides the time since the previous reply among replies that arrive together, since they collect while the plugin is
   * busy.
   */
  #measure(answered: readonly Sent[], earlierReplyAt: number): void {
    const [first] = answered;
    if (first === undefined || answered.some(({ control }) => control)) return;
    const tookMs = (this.#lastReplyAt - Math.max(first.sentAt, earlierReplyAt)) / answered.length;
    this.#quickestMs = Math.min(this.#quickestMs, tookMs);
    this.#measured++;
    if (this.#measured % WINDOW !== 0 && this.#measured !== WINDOW / 4) return;
    this.#serviceMs = this.#quickestMs;
    this.#quickestMs = Infinity;
  }
}

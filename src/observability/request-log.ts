// What is logged of requests: every Encrypt (they are rare), every failure, Decrypts at debug level, and of
// Status only a changed answer. uid and key_id, never data. And of clients that run into a limit.
import type { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import { clientText } from "../untrusted-text.js";

export interface LoggedRequest {
  readonly operation: "Status" | "Encrypt" | "Decrypt";
  readonly uid: string;
  readonly keyId: string | undefined;
  readonly healthz?: string;
  readonly error: KmsError | undefined;
  readonly seconds: number;
}

/** Who runs into a limit once does so thousands of times: a line for the first, then one a minute with their number. */
const LIMIT_EVERY_MS = 60_000;

export class RequestLog {
  readonly #log: Log;
  readonly #limits = new Map<string, { toldAt: number; untold: number }>();
  #lastStatus = "";

  constructor(log: Log) {
    this.#log = log;
  }

  requestDone(request: LoggedRequest): void {
    if (request.operation === "Status") this.#statusDone(request);
    else this.#cryptDone(request);
  }

  /** A request or a connection that was ended since its client holds more than clients need. */
  limitReached(limit: string): void {
    const now = performance.now();
    const known = this.#limits.get(limit) ?? { toldAt: -Infinity, untold: 0 };
    this.#limits.set(limit, known);
    known.untold += 1;
    if (now - known.toldAt < LIMIT_EVERY_MS) return;
    this.#log.warn({ limit, times: known.untold }, "a client was cut off at a limit");
    known.toldAt = now;
    known.untold = 0;
  }

  #statusDone({ keyId, healthz, error }: LoggedRequest): void {
    const answer = error === undefined ? `${healthz ?? ""} ${keyId ?? ""}` : `${error.code} ${error.message}`;
    if (answer === this.#lastStatus) return;
    this.#lastStatus = answer;
    if (error === undefined && healthz === "ok") this.#log.info({ keyId, healthz }, "Status changed");
    else this.#log.warn({ keyId, healthz, err: error }, "Status changed");
  }

  #cryptDone({ operation, uid, keyId, error, seconds }: LoggedRequest): void {
    if (operation === "Decrypt" && error === undefined) {
      this.#log.debug(
        { uid: clientText(uid), keyId: keyId && clientText(keyId), ms: toMs(seconds) },
        operation,
      );
    } else {
      const fields = {
        uid: clientText(uid),
        keyId: keyId && clientText(keyId),
        ms: toMs(seconds),
        ...(error && { err: error }),
      };
      if (error === undefined) this.#log.info(fields, operation);
      else this.#log.warn(fields, `${operation} failed`);
    }
  }
}

function toMs(seconds: number): number {
  return Math.round(seconds * 1e5) / 100;
}

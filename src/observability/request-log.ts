// Decides what the log says about requests: every Encrypt (they are rare), failures, Decrypts at debug level, and
// Status only when its answer changed. It logs uid and key_id, never data. Lines about failures and limits are bounded;
// metrics and the audit log have every request.
import type { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import { clientText } from "../untrusted-text.js";
import { RepeatedLines } from "./repeated-lines.js";

/** The facts of a finished request that are logged. */
export interface LoggedRequest {
  readonly operation: "Status" | "Encrypt" | "Decrypt";
  readonly uid: string;
  readonly keyId: string | undefined;
  readonly healthz?: string;
  readonly error: KmsError | undefined;
  readonly seconds: number;
}

/** Interval of the lines about failures with the same operation and error code, in ms. */
const FAILURE_INTERVAL_MS = 10_000;
/** Interval of the lines about one limit, in ms: a client that exceeds it does so thousands of times. */
const LIMIT_INTERVAL_MS = 60_000;

/** Logs finished requests and exceeded limits. */
export class RequestLog {
  readonly #log: Log;
  readonly #failures = new RepeatedLines(FAILURE_INTERVAL_MS);
  readonly #limits = new RepeatedLines(LIMIT_INTERVAL_MS);
  #lastStatus = "";

  constructor(log: Log) {
    this.#log = log;
  }

  /** Logs a finished request, if it is one that the log reports. */
  requestDone(request: LoggedRequest): void {
    if (request.operation === "Status") this.#statusDone(request);
    else this.#cryptDone(request);
  }

  /** Logs that a request or a connection was ended because its client exceeded a limit. */
  limitReached(limit: string): void {
    this.#limits.add(limit, (times) => {
      this.#log.warn({ limit, times }, "a client was disconnected because it exceeded a limit");
    });
  }

  /** Writes the lines that are held back; called at a stop. */
  flush(): void {
    this.#failures.flush();
    this.#limits.flush();
  }

  #statusDone({ keyId, healthz, error }: LoggedRequest): void {
    const answer = error === undefined ? `${healthz ?? ""} ${keyId ?? ""}` : `${error.code} ${error.message}`;
    if (answer === this.#lastStatus) return;
    this.#lastStatus = answer;
    if (error === undefined && healthz === "ok") this.#log.info({ keyId, healthz }, "Status changed");
    else this.#log.warn({ keyId, healthz, err: error }, "Status changed");
  }

  #cryptDone(request: LoggedRequest): void {
    const { operation, error } = request;
    if (error !== undefined) {
      this.#failures.add(`${operation} ${error.code}`, (times) => {
        const fields = { ...fieldsOf(request), ...(times > 1 && { times }), err: error };
        this.#log.warn(fields, `${operation} failed`);
      });
    } else if (operation === "Decrypt") this.#log.debug(fieldsOf(request), operation);
    else this.#log.info(fieldsOf(request), operation);
  }
}

function fieldsOf({ uid, keyId, seconds }: LoggedRequest): object {
  return {
    uid: clientText(uid),
    keyId: keyId && clientText(keyId),
    ms: Math.round(seconds * 1e5) / 100,
  };
}

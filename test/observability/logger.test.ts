// The log: its lines, the fields that it never shows, and how often it reports requests.

import { Writable } from "node:stream";

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { KmsError, type ErrorCode } from "../../src/errors.js";
import { createLogger } from "../../src/observability/logger.js";
import { RequestLog, type LoggedRequest } from "../../src/observability/request-log.js";

let text: string;
const into = new Writable({
  write: (chunk: Buffer, _encoding, done) => {
    text += chunk.toString();
    done();
  },
});
interface Entry {
  readonly level: string;
  readonly time: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}
const entries = (): Entry[] =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Entry);

beforeEach(() => {
  text = "";
});

describe("the log", () => {
  it("the log is one JSON line per event, even for text with line breaks", () => {
    const log = createLogger("info", into);
    log.info({ uid: "a\nb\u2028c" }, "first");
    log.warn({}, "second\nline");
    expect(entries()).toMatchObject([
      { level: "info", msg: "first", uid: "a\nb\u2028c" },
      { level: "warn", msg: "second\nline" },
    ]);
    for (const { time } of entries()) expect(new Date(time).toISOString()).toBe(time);
  });

  it("the log never shows the fields that hold secrets, at the top or one level down", () => {
    const log = createLogger("debug", into);
    for (const name of ["pin", "plaintext", "ciphertext", "password", "annotations", "secret"]) {
      log.debug({ [name]: "hidden-value" }, "top");
      log.debug({ request: { [name]: "hidden-value" } }, "below");
    }
    expect(text).not.toContain("hidden-value");
    expect(entries()).toHaveLength(12);
  });

  it("the log shows a stack only for an unexpected error, and the causes of every error", () => {
    const log = createLogger("info", into);
    log.warn({ err: new KmsError("DEADLINE", "late", new Error("beneath")) }, "expected");
    log.warn({ err: KmsError.from(new TypeError("defect")) }, "not expected");
    const [expected, defect] = entries().map(({ err }) => err as Record<string, unknown>);
    expect(expected).toMatchObject({ code: "DEADLINE", message: "late", cause: { message: "beneath" } });
    expect(expected?.["stack"]).toBeUndefined();
    expect(defect).toMatchObject({ code: "INTERNAL", cause: { message: "defect" } });
    expect(defect?.["stack"]).toEqual(expect.any(String));
  });
});

describe("the log of requests", () => {
  const ask = (request: Partial<LoggedRequest>): LoggedRequest => ({
    operation: "Status",
    uid: "",
    keyId: "k",
    error: undefined,
    seconds: 0.001,
    ...request,
  });
  const fill = (level: "debug" | "info", ...requests: Partial<LoggedRequest>[]): string[] => {
    const log = new RequestLog(createLogger(level, into));
    for (const request of requests) log.requestDone(ask(request));
    return entries().map(({ level: of, msg }) => `${of} ${msg}`);
  };

  it("the log of requests reports a Status only if its answer changed", () => {
    const away = new KmsError("HSM_UNAVAILABLE", "away");
    const ok = { healthz: "ok" };
    expect(
      fill(
        "debug",
        ok,
        ok,
        { ...ok, keyId: "k2" },
        { error: away },
        { error: away },
        { healthz: "why" },
        ok,
        ok,
      ),
    ).toEqual([
      "info Status changed",
      "info Status changed",
      "warn Status changed",
      "warn Status changed",
      "info Status changed",
    ]);
  });

  it("the log of requests has every Encrypt and kind of failure, and Decrypt at level debug", () => {
    const error = new KmsError("KEY_UNKNOWN", "no KEK");
    const requests = [
      { operation: "Encrypt", uid: "u1" },
      { operation: "Decrypt", uid: "u2" },
      { operation: "Decrypt", uid: "u3", error },
      { operation: "Encrypt", uid: "u4", error },
    ] as const;
    expect(fill("info", ...requests)).toEqual(["info Encrypt", "warn Decrypt failed", "warn Encrypt failed"]);
    expect(entries().map(({ uid, keyId }) => [uid, keyId])).toEqual([
      ["u1", "k"],
      ["u3", "k"],
      ["u4", "k"],
    ]);
    text = "";
    expect(fill("debug", ...requests)).toContain("debug Decrypt");
  });

  describe("in a loop", () => {
    beforeEach(() => {
      vi.useFakeTimers();
    });

    afterEach(() => {
      vi.useRealTimers();
    });

    it("the log of requests writes held-back lines when it is flushed, and no line twice", () => {
      const log = new RequestLog(createLogger("info", into));
      for (let times = 0; times < 5; times++) log.limitReached("too late");
      log.flush();
      log.flush();
      vi.advanceTimersByTime(120_000);
      expect(entries().map(({ times }) => times)).toEqual([1, 4]);
    });

    it("the log of requests reports a limit at once, then once a minute with the number of times", () => {
      const log = new RequestLog(createLogger("info", into));
      const reported = () => entries().map(({ limit, times }) => [limit, times]);
      for (let times = 0; times < 5; times++) log.limitReached("too late");
      log.limitReached("too many requests");
      const first = [
        ["too late", 1],
        ["too many requests", 1],
      ];
      expect(reported()).toEqual(first);
      vi.advanceTimersByTime(60_000);
      expect(reported()).toEqual([...first, ["too late", 4]]);
      log.limitReached("too late");
      log.limitReached("too many requests");
      expect(reported()).toEqual([...first, ["too late", 4], ["too many requests", 1]]);
      vi.advanceTimersByTime(60_000);
      expect(reported()).toEqual([...first, ["too late", 4], ["too many requests", 1], ["too late", 1]]);
    });

    it("failures of one kind are logged once per interval, the last one with their number", () => {
      const log = new RequestLog(createLogger("info", into));
      const fail = (code: ErrorCode, uid: string): void => {
        log.requestDone(ask({ operation: "Decrypt", uid, error: new KmsError(code, `because of ${uid}`) }));
      };
      const reported = () => entries().map(({ uid, times, err }) => [(err as KmsError).code, uid, times]);
      for (let sent = 1; sent <= 1_000; sent++) fail("NOT_AUTHENTIC", `u${sent}`);
      fail("KEY_UNKNOWN", "other");
      const first = [
        ["NOT_AUTHENTIC", "u1", undefined],
        ["KEY_UNKNOWN", "other", undefined],
      ];
      expect(reported()).toEqual(first);
      vi.advanceTimersByTime(10_000);
      expect(reported()).toEqual([...first, ["NOT_AUTHENTIC", "u1000", 999]]);
      expect(entries().at(-1)).toMatchObject({ level: "warn", msg: "Decrypt failed" });
      vi.advanceTimersByTime(10_000);
      fail("NOT_AUTHENTIC", "later");
      expect(reported()).toEqual([
        ...first,
        ["NOT_AUTHENTIC", "u1000", 999],
        ["NOT_AUTHENTIC", "later", undefined],
      ]);
    });
  });

  it("the log of requests truncates a client's texts", () => {
    fill("info", { operation: "Encrypt", uid: "u".repeat(5000), keyId: "k".repeat(5000) });
    expect(text.length).toBeLessThan(500);
  });
});

// Makes the plugin's log: JSON by pino, one line per event. A cached Decrypt writes no line at level info.
import { pino, type DestinationStream, type Logger } from "pino";

/** A log level: less severe lines are not written. */
export type LogLevel = "debug" | "info" | "warn" | "error";

/** Fields whose values never appear, in case code breaks the rule that nothing secret is logged. */
const NEVER = ["pin", "plaintext", "ciphertext", "password", "annotations", "secret"];

/** Returns a logger that writes to `destination`. */
export function createLogger(level: LogLevel, destination: DestinationStream): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: [...NEVER, ...NEVER.map((name) => `*.${name}`)], censor: "[redacted]" },
      serializers: { err: serializeError },
    },
    destination,
  );
}

/** Returns an error's code, message and causes. Only an unexpected error has its stack. */
export function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const code = (error as { code?: unknown }).code;
  const expected = typeof code === "string" && code !== "INTERNAL";
  return {
    ...(code === undefined ? {} : { code }),
    message: error.message,
    ...(expected ? {} : { stack: error.stack }),
    ...(error.cause instanceof Error ? { cause: serializeError(error.cause) } : {}),
  };
}

// The plugin's log: pino, JSON, one line an event. There is no line on the path of a cached request.
import { pino, type DestinationStream, type Logger } from "pino";

export type LogLevel = "debug" | "info" | "warn" | "error";

/** A second net under the rule that nothing secret is logged: values of these names never appear. */
const NEVER = ["pin", "plaintext", "ciphertext", "password", "annotations", "secret"];

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

/** Code, message and causes of an error: no stack for the expected ones, no data. */
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

// The log as all layers see it: structured fields first, then a fixed message. The composition root passes it in (a pino
// logger in production); no module imports a global logger.

export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

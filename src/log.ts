// The log as the lower layers see it: structured fields first, then a fixed message. Handed in by the
// composition root (a pino logger in production); nobody imports a logger as a global.

export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

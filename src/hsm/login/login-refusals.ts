// The texts that say why a PIN is not tried again, and how to allow another attempt.
import type { PinRecord } from "./login-record.js";

/** The PIN's source, and what to do about a refused PIN. */
export interface RefusedPin {
  readonly description: string;
  readonly correction: string;
}

/** What else the text depends on. */
export interface RecordContext {
  /** Whether the token reports that it counts wrong PINs. */
  readonly counted: boolean;
  /** The file with the record; undefined if it is kept in memory. */
  readonly path: string | undefined;
}

/** Returns why the PIN of an earlier attempt is not tried again. */
export function describeRecord(record: PinRecord, pin: RefusedPin, { counted, path }: RecordContext): string {
  const { at, source, reason, unanswered } = record;
  const hint = path === undefined ? "" : `, or remove ${path} if this PIN is correct now`;
  if (unanswered === undefined) {
    const from = source === pin.description || source === "" ? "" : `, from ${source},`;
    return (
      `the PIN from ${pin.description} was refused at ${at}${from} and is not tried again; ` +
      `${pin.correction}${hint} (${reason})`
    );
  }
  const why = counted
    ? "the token counts a wrong PIN"
    : "it was tried twice, and a third wrong PIN locks tokens";
  return (
    `a login with the PIN from ${pin.description} had no clear answer at ${at} and is not tried again, ` +
    `because ${why}; make sure that the PIN is correct: ${pin.correction}${hint} (${reason})`
  );
}

// An operator who sees and supplies nothing; `lines` collects the notices.

import type { Operator } from "../../src/admin/operator.js";

/** Returns an operator who sees and supplies nothing. @param lines receives the notices */
export function silentOperator(lines: string[] = []): Operator {
  const unavailable = (): never => {
    throw new Error("this operator supplies no PIN");
  };
  return {
    pins: { supplied: () => Promise.resolve(undefined), canPrompt: () => false, prompt: unavailable },
    seesProgress: false,
    notify: (line) => lines.push(line),
    startProgress: () => ({ update: () => undefined, end: () => undefined }),
    showStatus: () => () => undefined,
  };
}

// An operator who is shown nothing and supplies nothing; `lines` collects what it was notified of.

import type { Operator } from "../../src/admin/operator.js";

export function silentOperator(lines: string[] = []): Operator {
  const unavailable = (): never => {
    throw new Error("this operator supplies no PIN");
  };
  return {
    pins: { supplied: () => Promise.resolve(undefined), canPrompt: () => false, prompt: unavailable },
    seesProgress: false,
    notify: (line) => lines.push(line),
    startProgress: () => ({ update: () => undefined, end: () => undefined }),
  };
}

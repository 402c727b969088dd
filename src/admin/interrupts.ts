// Handles what interrupts a command: Ctrl-C, a supervisor's SIGTERM, and SIGHUP when the terminal closes, as when an
// SSH connection breaks. nohup does not prevent this SIGHUP: Node.js resets every signal to its default.

const INTERRUPTS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** 128 plus the signal's number, as a shell reports it. */
const EXIT_CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/** Runs work with a signal that the first interrupt aborts; the second interrupt ends the process. */
export async function untilInterrupted<T>(use: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stopListening = onInterrupt(() => {
    controller.abort();
  });
  try {
    return await use(controller.signal);
  } finally {
    stopListening();
  }
}

/**
 * Calls `notice` on the first interrupt instead of ending the process. Returns a function that removes the handlers.
 */
export function holdInterrupts(notice: () => void): () => void {
  return onInterrupt(notice);
}

/** Exits on an interrupt, so that cleanup runs. Returns a function that removes the handlers. */
export function exitOnInterrupt(): () => void {
  return onInterrupt((signal) => process.exit(EXIT_CODES[signal]));
}

function onInterrupt(listener: (signal: (typeof INTERRUPTS)[number]) => void): () => void {
  for (const signal of INTERRUPTS) process.once(signal, listener);
  return () => {
    for (const signal of INTERRUPTS) process.off(signal, listener);
  };
}

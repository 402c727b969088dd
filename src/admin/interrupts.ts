// Handles what interrupts a command: Ctrl-C, a supervisor's SIGTERM, and SIGHUP when the terminal closes, as when an
// SSH connection breaks. nohup does not prevent this SIGHUP: Node.js resets every signal to its default.

const INTERRUPTS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

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
 * Calls `notice` on the first interrupt, which does not end the process then. Returns a function that removes the handlers.
 */
export function holdInterrupts(notice: () => void): () => void {
  return onInterrupt(notice);
}

function onInterrupt(listener: () => void): () => void {
  for (const signal of INTERRUPTS) process.once(signal, listener);
  return () => {
    for (const signal of INTERRUPTS) process.off(signal, listener);
  };
}

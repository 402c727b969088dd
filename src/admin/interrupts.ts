// What interrupts a command: Ctrl-C, a supervisor's SIGTERM, and SIGHUP of a terminal that has gone, as when an SSH
// connection breaks. Nohup is no protection: Node.js sets every signal back to its default.

const INTERRUPTS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** A signal that the first interrupt sets; another one ends the process. */
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

/** Keeps the first interrupt from ending the process. Returns what ends that. @param notice called when it comes */
export function holdInterrupts(notice: () => void): () => void {
  return onInterrupt(notice);
}

function onInterrupt(listener: () => void): () => void {
  for (const signal of INTERRUPTS) process.once(signal, listener);
  return () => {
    for (const signal of INTERRUPTS) process.off(signal, listener);
  };
}

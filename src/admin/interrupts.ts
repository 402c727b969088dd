// Handles what interrupts a command: Ctrl-C, a supervisor's SIGTERM, and SIGHUP when the terminal closes, as when an
// SSH connection breaks. nohup does not prevent this SIGHUP: Node.js resets every signal to its default.
// The first interrupt lets the work in progress end; the second one says what remains unfinished, and ends the process.
import type { Operator } from "./operator.js";

const INTERRUPTS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** What the operator reads after interrupts. */
export interface InterruptNotices {
  readonly operator: Pick<Operator, "notify">;
  /** Said at the first interrupt. */
  readonly first: string;
  /** Returns what is unfinished or unknown, and what to do next, if the process ends now. */
  readonly unfinished: () => string;
}

interface Holder {
  readonly onFirst: () => void;
  readonly notices: InterruptNotices | undefined;
  isNotified: boolean;
}

/** The innermost comes last, and is the one that speaks. */
const holders: Holder[] = [];

/**
 * Runs work with a signal that the first interrupt aborts; the second interrupt ends the process.
 * @param notices undefined if the work ends so soon that there is nothing to say
 */
export async function untilInterrupted<T>(
  notices: InterruptNotices | undefined,
  use: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const release = holdInterrupts(notices, () => {
    controller.abort();
  });
  try {
    return await use(controller.signal);
  } finally {
    release();
  }
}

/**
 * Calls `onFirst` at the next interrupt, which does not end the process then. Returns a function that ends this; it may be
 * called again.
 */
export function holdInterrupts(
  notices: InterruptNotices | undefined,
  onFirst: () => void = () => undefined,
): () => void {
  const holder = { onFirst, notices, isNotified: false };
  if (holders.length === 0) for (const signal of INTERRUPTS) process.on(signal, receive);
  holders.push(holder);
  return () => {
    const at = holders.indexOf(holder);
    if (at < 0) return;
    holders.splice(at, 1);
    if (holders.length === 0) stopListening();
  };
}

/** Returns notices for work that ends with the request in progress and can be repeated. */
export function repeatableNotices(
  operator: Pick<Operator, "notify">,
  unfinished = "run the command again to continue",
): InterruptNotices {
  return {
    operator,
    first: "interrupted: finishing the request in progress; interrupt again to exit now",
    unfinished: () => unfinished,
  };
}

/** Returns notices for a command that makes a KEK and waits until others have it. */
export function keyNotices(operator: Pick<Operator, "notify">): InterruptNotices {
  return repeatableNotices(operator, "see 'kms-pkcs11 keys list' for the KEK that was made");
}

function receive(signal: NodeJS.Signals): void {
  const notices = holders.at(-1)?.notices;
  const unaware = holders.filter(({ isNotified }) => !isNotified);
  if (unaware.length > 0) {
    notices?.operator.notify(notices.first);
    for (const holder of unaware) {
      holder.isNotified = true;
      holder.onFirst();
    }
    return;
  }
  // One closed terminal sends several: its shell passes the signal on, and the kernel sends it again when the shell ends.
  if (signal === "SIGHUP") return;
  notices?.operator.notify(`interrupted again: exiting now; ${notices.unfinished()}`);
  stopListening();
  process.kill(process.pid, signal);
}

function stopListening(): void {
  for (const signal of INTERRUPTS) process.off(signal, receive);
}

// Lets the threads of one process do something one after another. A thread that never returns blocks the others, until
// the plugin ends the process.

/** The index of the lock, and that of the mark that a thread leaves for those after it. */
const LOCK = 0;
const MARK = 1;

const FREE = 0;
const TAKEN = 1;

/** Returns a turn that no thread has taken. */
export function newTurn(): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
}

/** Runs `work` while no other thread runs work in the same turn, and blocks until then. */
export function inTurn<T>(turn: Int32Array<SharedArrayBuffer>, work: () => T): T {
  while (Atomics.compareExchange(turn, LOCK, FREE, TAKEN) !== FREE) Atomics.wait(turn, LOCK, TAKEN);
  try {
    return work();
  } finally {
    Atomics.store(turn, LOCK, FREE);
    Atomics.notify(turn, LOCK, 1);
  }
}

/** Tells the threads that have their turn later that the work has been done once. */
export function mark(turn: Int32Array<SharedArrayBuffer>): void {
  Atomics.store(turn, MARK, 1);
}

/** Returns whether a thread has left its mark. */
export function isMarked(turn: Int32Array<SharedArrayBuffer>): boolean {
  return Atomics.load(turn, MARK) === 1;
}

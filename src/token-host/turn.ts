// Lets the threads of one process do something one after another. A thread that never returns blocks the others, until
// the plugin ends the process.

const FREE = 0;
const TAKEN = 1;

/** Returns a turn that no thread has taken. */
export function newTurn(): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
}

/** Runs `work` while no other thread runs work in the same turn, and blocks until then. */
export function inTurn<T>(turn: Int32Array<SharedArrayBuffer>, work: () => T): T {
  while (Atomics.compareExchange(turn, 0, FREE, TAKEN) !== FREE) Atomics.wait(turn, 0, TAKEN);
  try {
    return work();
  } finally {
    Atomics.store(turn, 0, FREE);
    Atomics.notify(turn, 0, 1);
  }
}

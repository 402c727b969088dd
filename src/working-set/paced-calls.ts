// Makes many calls to the HSM in the background, as many at a time as it answers quickly: one at first, one more after
// each quick answer, half as many after a slow one.

/** Duration from which a call counts as slow, in ms. */
const SLOW_MS = 250;

/**
 * Calls `work` for each item. Ends early once `work` returns false, when the calls in progress have ended.
 * @param most largest number of calls at a time
 * @param work must not reject
 */
export function callPaced<T>(
  items: Iterable<T>,
  work: (item: T) => Promise<boolean>,
  most: number,
): Promise<void> {
  return new Promise((resolve) => {
    const remaining = items[Symbol.iterator]();
    let isOver = false;
    let running = 0;
    let limit = 1;
    const call = async (item: T): Promise<void> => {
      const startedAt = performance.now();
      running++;
      const goOn = await work(item);
      running--;
      if (!goOn) isOver = true;
      const isSlow = performance.now() - startedAt > SLOW_MS;
      limit = isSlow ? Math.max(1, Math.floor(limit / 2)) : Math.min(most, limit + 1);
      fill();
    };
    const fill = (): void => {
      while (!isOver && running < limit) {
        const next = remaining.next();
        if (next.done === true) isOver = true;
        else void call(next.value);
      }
      if (isOver && running === 0) resolve();
    };
    fill();
  });
}

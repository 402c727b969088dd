// Many requests in little time: some at a time, few enough for none to wait long behind the others.

/** Calls `work` for every item, for `size` of them at a time. Rejects with the first failure. */
export async function inBatches<T>(
  items: readonly T[],
  work: (item: T) => Promise<unknown>,
  size = 16,
): Promise<void> {
  for (let from = 0; from < items.length; from += size) {
    await Promise.all(items.slice(from, from + size).map(work));
  }
}

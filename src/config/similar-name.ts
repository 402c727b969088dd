// Suggests the known name that a mistyped one most likely stands for.

/**
 * Returns the known name closest to `given`, which differs only in case and punctuation or by at most two edits;
 * undefined if there is none.
 */
export function similarName(given: string, known: readonly string[]): string | undefined {
  if (given.length > 64) return undefined;
  const plain = (name: string): string => name.toLowerCase().replace(/[-_]/g, "");
  const ranked = known
    .map((name) => ({ name, distance: plain(name) === plain(given) ? 0 : edits(given, name) }))
    .filter(({ name, distance }) => distance <= Math.min(2, name.length - 2))
    .sort((a, b) => a.distance - b.distance);
  return ranked[0]?.name;
}

/** Returns the Levenshtein distance: insertions, deletions and replacements of one character. */
function edits(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let line = 1; line <= from.length; line++) {
    const next = [line];
    for (let column = 1; column <= to.length; column++) {
      const replaced = (row[column - 1] ?? 0) + (from[line - 1] === to[column - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[column] ?? 0) + 1, (next[column - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}

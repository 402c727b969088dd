// Reads an option that may be repeated.

/** Adds a value to those that were given before it, as commander calls it for each. */
export function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

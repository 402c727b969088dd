// Where the settings of a YAML document are written. Knows nothing of settings: a path is a list of keys and indices.
import {
  isMap,
  isScalar,
  isSeq,
  type Document,
  type LineCounter,
  type Node,
  type Pair,
  type YAMLMap,
} from "yaml";

/** Both count from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/**
 * Returns where the key or list entry at a path is written; for one that is not written, where the innermost mapping or
 * list around it begins.
 */
export type Positions = (path: readonly PropertyKey[]) => Position;

/** Returns the positions in a document that was parsed with this line counter. */
export function positionsIn(document: Document.Parsed, lines: LineCounter): Positions {
  // A mapping may have 50,000 keys, and each of them a problem.
  const indexed = new Map<YAMLMap, ReadonlyMap<string, Pair>>();
  const entriesOf = (mapping: YAMLMap): ReadonlyMap<string, Pair> => {
    const known = indexed.get(mapping) ?? new Map(mapping.items.map((pair) => [nameOf(pair.key), pair]));
    indexed.set(mapping, known);
    return known;
  };
  return (path) => {
    let at: unknown = document.contents;
    let offset = offsetOf(at);
    for (const step of path) {
      const pair = isMap(at) ? entriesOf(at).get(String(step)) : undefined;
      at = pair === undefined && isSeq(at) ? at.items[Number(step)] : pair?.value;
      const begin = pair?.key ?? at;
      if (begin === undefined || begin === null) break;
      offset = offsetOf(begin);
    }
    const { line, col } = lines.linePos(offset);
    return { line, column: col };
  };
}

function nameOf(key: unknown): string {
  return isScalar(key) ? String(key.value) : "";
}

function offsetOf(node: unknown): number {
  return (node as Node | null)?.range?.[0] ?? 0;
}

// What a compiled module of dist/ imports.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** Matches the imports of other modules of dist/, as tsc writes them. */
const IMPORT = /^(?:import|export) (?:[^;]*? from )?"(\.[^"]*)";$/gm;

/** Returns a module and all that it imports, without those that it loads later. */
export function withImports(file, found = new Set()) {
  if (found.has(file)) return found;
  found.add(file);
  for (const [, path] of readFileSync(file, "utf8").matchAll(IMPORT)) {
    withImports(join(dirname(file), path), found);
  }
  return found;
}

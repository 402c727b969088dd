// Sets V8 up for the plugin and its commands, however they were started: limits on garbage, and the cache of compiled
// modules that the build makes beside the program (scripts/compile-cache.js).
import { existsSync, readdirSync } from "node:fs";
import module from "node:module";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";

const CACHE_FOLDER = fileURLToPath(new URL("compile-cache/", import.meta.url));

/** V8 reads these only when it starts. By default it lets 30 MB of young garbage grow, and starts with frequent collections. */
const YOUNG_GARBAGE = ["--min-semi-space-size=4", "--max-semi-space-size=4"];

/** Node.js's types and its releases before 24.12 have no option `portable`. */
interface CompileCache {
  enableCompileCache(options: { directory: string; portable: boolean }): unknown;
}

/**
 * Starts this process again under its process id with limits on young garbage, unless the command line of Node.js sets one.
 * Returns if they are set, and on releases of Node.js before 22.15, which cannot.
 */
export function limitYoungGarbage(): void {
  const { execve } = process as { execve?: (file: string, args: readonly string[]) => never };
  const { execPath, execArgv, argv } = process;
  if (execve === undefined || execArgv.some((option) => option.includes("-semi-space-size"))) return;
  // Node.js aborts if it cannot be executed, for instance because it has just been replaced.
  if (existsSync(execPath)) execve(execPath, [execPath, ...YOUNG_GARBAGE, ...execArgv, ...argv.slice(1)]);
}

/** Keeps V8 from letting garbage grow to a multiple of what is in use. Affects the cache: call it first. */
export function limitGarbage(): void {
  setFlagsFromString("--heap-growing-percent=40");
}

/**
 * Makes this thread take compiled modules from the cache, which may be read-only. Does nothing if the build made none for
 * this version of Node.js.
 */
export function useCompileCache(): void {
  try {
    const made = readdirSync(CACHE_FOLDER).some((name) =>
      name.startsWith(`${process.version}-${process.arch}-`),
    );
    if (!made) return;
    // Portable: modules are found by their path from the cache, so that the program can be moved.
    (module as unknown as CompileCache).enableCompileCache({ directory: CACHE_FOLDER, portable: true });
  } catch {
    // Without the cache, a start takes longer.
  }
}

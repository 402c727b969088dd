// Sets V8 up for the plugin and its commands, however they were started: limits on garbage, and the cache of compiled
// modules that the build makes beside the program (scripts/compile-cache.js).
import { readdirSync } from "node:fs";
import module from "node:module";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";

const CACHE_FOLDER = fileURLToPath(new URL("compile-cache/", import.meta.url));

/** Node.js's types and its releases before 24.12 have no option `portable`. */
interface CompileCache {
  enableCompileCache(options: { directory: string; portable: boolean }): unknown;
}

/**
 * Keeps V8's young generation at its first size: 1 MB, or what --min-semi-space-size says. By default, it grows to 30 MB of
 * garbage. It affects the compile cache, so call it before that is used.
 */
export function limitYoungGarbage(): void {
  setFlagsFromString("--semi-space-growth-factor=1");
}

/** Keeps V8 from letting garbage grow to a multiple of what is in use. Also affects the compile cache. */
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

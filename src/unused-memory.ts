// Gives memory that a process does not use back to the kernel, by a library compiled from unused-memory.c. The plugin is three
// processes of Node.js on every control-plane node, and most pages of that program are needed at a start only.
import { fileURLToPath } from "node:url";

export const UNUSED_MEMORY_LIBRARY = fileURLToPath(
  new URL(`unused-memory-${process.arch}.node`, import.meta.url),
);

/** Takes about a millisecond, in which this thread, and others that allocate memory, do nothing else. */
export const RETURN_MEMORY_EVERY_MS = 30_000;

/**
 * Returns unused memory once; it stays in use if the library cannot be loaded. Takes the locks of malloc and of the dynamic
 * linker: a thread that must not wait for a vendor's library may not call it.
 * @param library the file of UNUSED_MEMORY_LIBRARY
 */
export function returnUnusedMemory(library: string): void {
  try {
    // Loading it is all that it is for; it exports nothing.
    process.dlopen({ exports: {} }, library);
  } catch {
    // Nothing depends on it.
  }
}

/** Returns unused memory from now on, without keeping the process alive. */
export function returnUnusedMemoryRegularly(): void {
  setInterval(() => {
    returnUnusedMemory(UNUSED_MEMORY_LIBRARY);
  }, RETURN_MEMORY_EVERY_MS).unref();
}

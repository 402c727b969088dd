// Gives memory that a process does not use back to the kernel, by a library compiled from unused-memory.c. The plugin is three
// processes of Node.js on every control-plane node, and most pages of that program are needed at a start only.
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

export const UNUSED_MEMORY_LIBRARY = fileURLToPath(
  new URL(`unused-memory-${process.arch}.node`, import.meta.url),
);

/** Less than half of a slab, so that Node.js takes such a buffer from a slab. */
const SMALL_BYTES = 1024;

/** Sizes in bytes, and numbers, of the blocks that overwrite freed ones. */
const LARGEST_BLOCK = 65_536;
const BLOCKS = 32;
const blocks: Buffer[] = [];

/** Takes about a millisecond, in which this thread, and others that allocate memory, do nothing else. */
export const RETURN_MEMORY_EVERY_MS = 10_000;

/**
 * Returns unused memory once; it stays in use if the library cannot be loaded. Takes the locks of malloc and of the dynamic
 * linker: a thread that must not wait for a vendor's library may not call it.
 * @param library the file of UNUSED_MEMORY_LIBRARY
 */
export function returnUnusedMemory(library: string): void {
  try {
    // The library does its work while it is loaded, and exports nothing.
    process.dlopen({ exports: {} }, library);
  } catch {
    // The memory stays in use.
  }
}

/** Returns unused memory from now on, without keeping the process alive. */
export function returnUnusedMemoryRegularly(): void {
  setInterval(() => {
    returnUnusedMemory(UNUSED_MEMORY_LIBRARY);
  }, RETURN_MEMORY_EVERY_MS).unref();
}

/**
 * Collects garbage now and returns the freed memory, so that copies of secrets which the runtime made, such as the buffers
 * of requests, do not stay in memory. Blocks this thread for some tens of milliseconds; for rare use.
 */
export function dropFreedMemory(): void {
  // Small buffers share a slab, which lives as long as any of them. These fill the current slab, so that later buffers get
  // another one.
  for (let used = 0; used < 2 * Buffer.poolSize; used += SMALL_BYTES) Buffer.allocUnsafe(SMALL_BYTES).fill(0);
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
  // The allocator keeps freed small blocks with their content; new blocks overwrite it.
  overwriteFreedBlocks();
  collect();
  returnUnusedMemory(UNUSED_MEMORY_LIBRARY);
}

function overwriteFreedBlocks(): void {
  for (let size = 16; size <= LARGEST_BLOCK; size *= 2) {
    for (let count = 0; count < BLOCKS; count++) {
      blocks.push(Buffer.allocUnsafeSlow(size).fill(0), Buffer.allocUnsafeSlow(size + size / 2).fill(0));
    }
  }
  blocks.length = 0;
}

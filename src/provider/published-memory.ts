// Stores the node's memory of its answers in the state directory, so that a restart with the clock behind does not
// return to an earlier KEK, and no use of a KEK is forgotten. The data is public; a missing or damaged file counts as
// no memory.
import { join } from "node:path";
import { readStateFile, saveState } from "../files/state-file.js";
import type { KeyMemoryStore } from "./key-memory.js";

const FILE = "published-key.json";

/** A store that keeps nothing, for a plugin without a state directory. */
export const NO_PUBLISHED_MEMORY: KeyMemoryStore = { load: () => undefined, save: () => undefined };

/** Stores the memory in a file. */
export class FilePublishedMemory implements KeyMemoryStore {
  readonly #path: string;

  /** @param directory the state directory; created with mode 0700 when first needed */
  constructor(directory: string) {
    this.#path = join(directory, FILE);
  }

  load(): unknown {
    try {
      return readStateFile(this.#path);
    } catch {
      return undefined;
    }
  }

  /** Writes the file. @throws KmsError STATE_UNUSABLE, which names the file and says how to fix it */
  save(document: object): void {
    saveState(this.#path, document);
  }
}

/** Returns a store that never writes, for commands that read a state directory while a plugin uses it. */
export function readOnly(store: KeyMemoryStore): KeyMemoryStore {
  return { load: () => store.load(), save: () => undefined };
}

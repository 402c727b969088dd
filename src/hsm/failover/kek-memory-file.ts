// Stores what a failover set remembers of its KEKs in the state directory. The data is public.
import { join } from "node:path";
import { readStateFile, saveState } from "../../files/state-file.js";
import type { KekMemoryStore } from "./kek-memory.js";

const FILE = "failover-keks.json";

/** Stores the memory in a file. */
export class KekMemoryFile implements KekMemoryStore {
  readonly #path: string;

  /** @param directory the state directory; created with mode 0700 when first needed */
  constructor(directory: string) {
    this.#path = join(directory, FILE);
  }

  /** Returns undefined if there is no file. @throws Error if it cannot be read */
  load(): unknown {
    try {
      return readStateFile(this.#path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  }

  /** Writes the file. @throws KmsError STATE_UNUSABLE, which names the file and says how to fix it */
  save(document: object): void {
    saveState(this.#path, document);
  }
}

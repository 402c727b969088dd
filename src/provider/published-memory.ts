// The node's memory of its answers in the state directory, so that a restart with the clock behind does not go back to
// an earlier KEK, and no use of a KEK is forgotten. Public data; a file that is missing or damaged counts as none.
import { join } from "node:path";
import { readStateFile, writeStateFile } from "../files/state-file.js";
import type { KeyMemoryStore } from "./key-memory.js";

const FILE = "published-key.json";

export const NO_PUBLISHED_MEMORY: KeyMemoryStore = { load: () => undefined, save: () => undefined };

export class FilePublishedMemory implements KeyMemoryStore {
  readonly #path: string;

  /** @param directory the state directory; made with mode 0700 when it is first needed */
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

  /** @throws NodeJS.ErrnoException */
  save(document: object): void {
    writeStateFile(this.#path, document);
  }
}

/** For commands that read a node's state directory while its plugin writes there. */
export function readOnly(store: KeyMemoryStore): KeyMemoryStore {
  return { load: () => store.load(), save: () => undefined };
}

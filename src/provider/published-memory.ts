// The last published key_id in the state directory, so that a restart with the clock behind does not go back
// to an earlier KEK. Public data; a file that is missing or damaged counts as none.
import { join } from "node:path";
import { readStateFile, writeStateFile } from "../hsm/state-file.js";
import type { Log } from "../log.js";
import type { Published, PublishedMemory } from "./active-key.js";

const FILE = "published-key.json";

export const NO_PUBLISHED_MEMORY: PublishedMemory = { load: () => undefined, save: () => undefined };

export class FilePublishedMemory implements PublishedMemory {
  readonly #path: string;
  readonly #log: Log;

  /** @param directory the state directory; made with mode 0700 when it is first needed */
  constructor(directory: string, log: Log) {
    this.#path = join(directory, FILE);
    this.#log = log;
  }

  load(): Published | undefined {
    try {
      const parsed: unknown = readStateFile(this.#path);
      return isPublished(parsed) ? parsed : undefined;
    } catch {
      return undefined;
    }
  }

  save(published: Published): void {
    try {
      writeStateFile(this.#path, published);
    } catch (error) {
      this.#log.warn({ err: error }, "cannot record the active key_id in the state directory");
    }
  }
}

function isPublished(value: unknown): value is Published {
  if (typeof value !== "object" || value === null) return false;
  const { keyId, activation } = value as Partial<Record<keyof Published, unknown>>;
  return typeof keyId === "string" && (activation === null || typeof activation === "number");
}

// Stores the working set in the state directory. A missing file is an empty working set; one that cannot be used is set
// aside with one warning and never stops a start.
import { join } from "node:path";
import { readStateBytes, setAside, writeStateBytes } from "../files/state-bytes.js";
import { askToRepair } from "../files/state-file.js";
import type { Log } from "../log.js";
import type { DecryptQuestion } from "../provider/kms.js";
import { decodeWorkingSet, encodeWorkingSet, MAX_BYTES } from "./format.js";

const FILE = "working-set";

/** Storage of the working set that outlives the process. */
export interface WorkingSetStore {
  /** Returns what was saved last, the most recently used first; never throws. */
  load(): DecryptQuestion[];
  /** Saves the first questions, as many as the limits permit, and returns their number; never throws. */
  save(questions: Iterable<DecryptQuestion>): Promise<number | undefined>;
}

/** Stores the working set in a file. */
export class WorkingSetFile implements WorkingSetStore {
  readonly #path: string;
  readonly #log: Log;
  /** The last failure to save, so that it is logged once. */
  #failure: string | undefined;

  /** @param directory the state directory; created with mode 0700 when first needed */
  constructor(directory: string, log: Log) {
    this.#path = join(directory, FILE);
    this.#log = log;
  }

  load(): DecryptQuestion[] {
    try {
      return decodeWorkingSet(readStateBytes(this.#path, MAX_BYTES));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") this.#setAside(error);
      return [];
    }
  }

  /** Returns undefined if the file cannot be written. */
  async save(questions: Iterable<DecryptQuestion>): Promise<number | undefined> {
    const { bytes, entries } = encodeWorkingSet(questions);
    try {
      await writeStateBytes(this.#path, bytes);
      this.#failure = undefined;
      return entries;
    } catch (error) {
      const text = `the working set is not stored: ${askToRepair(this.#path, error)}`;
      if (this.#failure !== text) this.#log.warn({ err: error }, text);
      this.#failure = text;
      return undefined;
    }
  }

  #setAside(problem: unknown): void {
    let file = this.#path;
    try {
      file = setAside(this.#path);
    } catch {
      // The file stays, and the next save replaces it.
    }
    this.#log.warn(
      { file, err: problem },
      "the stored working set cannot be used; this start decrypts no seeds in advance",
    );
  }
}

// What is remembered of logins in the state directory, so that a restart does not spend another attempt. The file
// holds names of tokens (digests), metadata of PIN sources and dates: nothing that narrows a PIN down.
import { join } from "node:path";
import type { PinMemories, PinMemory, PinRecord } from "./pin-history.js";
import { readStateFile, writeStateFile } from "./state-file.js";

const REFUSED = "pin-refused.json";
const ACCEPTED = "pin-accepted.json";

type Records = Readonly<Record<string, PinRecord | undefined>>;

/** In the state directory, or for the life of the process only where there is none. */
export function pinMemories(directory: string | undefined): PinMemories {
  return directory === undefined
    ? { refused: new VolatilePinMemory(), accepted: new VolatilePinMemory() }
    : { refused: new FilePinMemory(directory, REFUSED), accepted: new FilePinMemory(directory, ACCEPTED) };
}

class VolatilePinMemory implements PinMemory {
  readonly place = undefined;
  readonly #records = new Map<string, PinRecord>();

  load(token: string): PinRecord | undefined {
    return this.#records.get(token);
  }

  save(token: string, record: PinRecord | undefined): void {
    if (record === undefined) this.#records.delete(token);
    else this.#records.set(token, record);
  }
}

class FilePinMemory implements PinMemory {
  readonly place: string;
  #last: Records = {};

  /** @param directory the state directory; made with mode 0700 when it is first needed */
  constructor(directory: string, file: string) {
    this.place = join(directory, file);
  }

  load(token: string): PinRecord | undefined {
    return this.#readAll()[token];
  }

  /** @throws NodeJS.ErrnoException when the state directory cannot be written */
  save(token: string, record: PinRecord | undefined): void {
    const all = this.#readAll();
    if (record === undefined && all[token] === undefined) return;
    const others = Object.entries(all).filter(([name]) => name !== token);
    const next = Object.fromEntries(record === undefined ? others : [...others, [token, record]]);
    writeStateFile(this.place, next);
    this.#last = next;
  }

  /** A file that is not there holds nothing; of one that cannot be read or is damaged, what it held last counts. */
  #readAll(): Records {
    try {
      const parsed: unknown = readStateFile(this.place);
      if (typeof parsed === "object" && parsed !== null) this.#last = parsed as Records;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") this.#last = {};
    }
    return this.#last;
  }
}

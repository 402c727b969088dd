// Refused PINs in the state directory, by token, so that a restart does not spend another attempt. The file
// holds names of tokens (digests), metadata of PIN sources and dates: nothing that narrows a PIN down.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { PinMemory, RefusedPin } from "./pin-gate.js";

const FILE = "pin-refused.json";

/** Keeps refusals for the life of the process only. */
export class VolatilePinMemory implements PinMemory {
  readonly #refused = new Map<string, RefusedPin>();

  load(token: string): RefusedPin | undefined {
    return this.#refused.get(token);
  }

  save(token: string, refused: RefusedPin | undefined): void {
    if (refused === undefined) this.#refused.delete(token);
    else this.#refused.set(token, refused);
  }
}

export class FilePinMemory implements PinMemory {
  readonly #directory: string;

  /** @param directory the state directory; made with mode 0700 when it is first needed */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** A file that is missing or damaged counts as no refusal: the token keeps its own counter. */
  load(token: string): RefusedPin | undefined {
    return this.#readAll()[token];
  }

  /** @throws NodeJS.ErrnoException when the state directory cannot be written */
  save(token: string, refused: RefusedPin | undefined): void {
    const others = Object.entries(this.#readAll()).filter(([name]) => name !== token);
    const all = Object.fromEntries(refused === undefined ? others : [...others, [token, refused]]);
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    const path = join(this.#directory, FILE);
    writeFileSync(`${path}.new`, JSON.stringify(all, null, 2) + "\n", { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  #readAll(): Record<string, RefusedPin | undefined> {
    try {
      const parsed: unknown = JSON.parse(readFileSync(join(this.#directory, FILE), "utf8"));
      return typeof parsed === "object" && parsed !== null ? (parsed as Record<string, RefusedPin>) : {};
    } catch {
      return {};
    }
  }
}

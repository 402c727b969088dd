// Records in the node's memory which generation Status is about to publish, and whether the published one is recorded.
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import type { Generation } from "./generations.js";
import type { PublishedMemory } from "./key-memory.js";

/** Records the published generation and logs a failure once. */
export class PublicationRecord {
  readonly #memory: PublishedMemory;
  readonly #log: Log;
  /** Why the last attempt failed; undefined if it succeeded. */
  #failure: string | undefined;

  constructor(memory: PublishedMemory, log: Log) {
    this.#memory = memory;
    this.#log = log;
  }

  /** Records a generation. Returns undefined, or why it cannot be recorded, which is logged once. */
  save({ record: { keyId }, activation }: Generation): KmsError | undefined {
    try {
      this.#memory.save({ keyId, activation: Number.isFinite(activation) ? activation : null });
      this.#failure = undefined;
      return undefined;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const text = `the state directory cannot record KEK ${keyId}: ${reason}`;
      if (this.#failure !== text) this.#log.warn({ keyId, err: error }, text);
      this.#failure = text;
      return new KmsError("KEY_UNSUITABLE", `KEK ${keyId} is due but not activated: ${text}`, error);
    }
  }
}

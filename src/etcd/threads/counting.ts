// What a counting thread does with its messages, without the thread: counts the objects of each batch, asks for the DEK seeds
// it needs, and returns its part of the result at the end. Counts nothing after a failure.
import { Census } from "../census.js";
import { RangePage } from "../range-response.js";
import { copyOf, Seeds, type SeedOutcome } from "../seeds.js";
import { storedObject, type StoredObject } from "../store.js";
import { Verification } from "../verification.js";
import {
  receivedOutcome,
  sentError,
  type FromThread,
  type Kind,
  type Parts,
  type Task,
  type ToThread,
} from "./messages.js";

interface Counter {
  /** Counts one object; a promise if that takes a DEK seed that is not known yet. */
  add(object: StoredObject): void | Promise<void>;
  part(): Parts[Kind];
}

export class Counting {
  readonly #send: (message: FromThread) => void;
  readonly #counter: Counter;
  readonly #asked = new Map<number, (outcome: SeedOutcome) => void>();
  #questions = 0;

  constructor(task: Task, send: (message: FromThread) => void) {
    this.#send = send;
    this.#counter = counterFor(task, new Seeds((question) => this.#ask(copyOf(question))));
  }

  /** Handles a message; a failure is sent. */
  async receive(message: ToThread): Promise<void> {
    try {
      if (message.kind === "batch") await this.#count(message.bytes);
      else if (message.kind === "end") this.#send({ kind: "part", part: this.#counter.part() });
      else {
        this.#asked.get(message.id)?.(receivedOutcome(message.outcome));
        this.#asked.delete(message.id);
      }
    } catch (error) {
      this.#send({ kind: "failure", failure: sentError(error) });
    }
  }

  async #count({ buffer, byteOffset, length }: Uint8Array<ArrayBuffer>): Promise<void> {
    const waiting: Promise<void>[] = [];
    for (const entry of new RangePage(Buffer.from(buffer, byteOffset, length)).entries()) {
      const pending = this.#counter.add(storedObject(entry));
      if (pending !== undefined) waiting.push(pending);
    }
    await Promise.all(waiting);
    this.#send({ kind: "counted" });
  }

  /** The thread is ended if the seed cannot be loaded, so there is always an outcome. */
  #ask(question: ReturnType<typeof copyOf>): Promise<SeedOutcome> {
    const id = ++this.#questions;
    return new Promise((resolve) => {
      this.#asked.set(id, resolve);
      this.#send({ kind: "seed", id, question });
    });
  }
}

function counterFor({ kind, prefix, listed }: Task, seeds: Seeds): Counter {
  if (kind === "census") return new Census({ prefix });
  const verification = new Verification(seeds, prefix, listed);
  return {
    add: (object) => verification.add(object),
    part: () => verification.result(),
  };
}

// Counts the objects of a store in several threads, while this thread reads them. A batch is in memory once, and a thread has
// two at most, so a slow thread slows down the scan. If any thread fails, the count fails: no part is left out.
import { Worker } from "node:worker_threads";
import { KmsError } from "../../errors.js";
import type { Seeds } from "../seeds.js";
import type { Batch } from "../store.js";
import { countHere, ownBytes } from "./count-here.js";
import {
  receivedError,
  sentOutcome,
  type FromThread,
  type Kind,
  type Parts,
  type Task,
  type ToThread,
} from "./messages.js";

/** One that is being counted, and the next one. */
const BATCHES_AT_ONCE = 2;

export interface ThreadOptions {
  /** The largest number of threads; they are started when they are needed. */
  readonly threads: number;
  /** Loads the DEK seeds that the threads need; without it they need none. */
  readonly seeds?: Seeds;
  /** The built counting-thread.js. */
  readonly entry?: URL;
  /** Called with the number of objects that have been counted. */
  readonly counted?: (objects: number) => void;
}

/** Objects are garbage as soon as they are counted: a larger young generation takes memory and saves no time. */
const THREAD_LIMITS = { maxYoungGenerationSizeMb: 24 };

const ENTRY = new URL("./counting-thread.js", import.meta.url);

/** With fewer objects and bytes, no thread is started. */
const FEW_OBJECTS = 2_000;
const FEW_BYTES = 4 * 1024 * 1024;

/**
 * Counts all objects of the batches; only a few of them in this thread.
 * @returns the parts of the result, one from each thread that was needed
 * @throws KmsError as the batches and the threads do; INTERNAL if a thread ends unexpectedly
 */
export async function countInThreads<K extends Kind>(
  task: Task & { readonly kind: K },
  batches: AsyncGenerator<Batch, void>,
  options: ThreadOptions,
): Promise<Parts[K][]> {
  const first: Batch[] = [];
  let [objects, bytes] = [0, 0];
  while (objects < FEW_OBJECTS && bytes < FEW_BYTES) {
    const { value: batch, done } = await batches.next();
    if (done === true) {
      const part = await countHere(task, first, options.seeds);
      options.counted?.(objects);
      return [part as Parts[K]];
    }
    first.push(batch);
    objects += batch.objects;
    bytes += batch.bytes.length;
  }
  const threads = new CountingThreads(task, options);
  try {
    for (const batch of first) await threads.count(batch);
    for (;;) {
      const { value: batch, done } = await threads.orFailure(batches.next());
      if (done === true) break;
      await threads.count(batch);
    }
    return (await threads.parts()) as Parts[K][];
  } finally {
    await threads.end();
  }
}

class CountingThreads {
  readonly #task: Task;
  readonly #options: ThreadOptions;
  readonly #threads: CountingThread[] = [];
  readonly #failure: Promise<never>;
  #fail: (error: unknown) => void = () => undefined;
  #counted = 0;

  constructor(task: Task, options: ThreadOptions) {
    this.#task = task;
    this.#options = options;
    this.#failure = new Promise((_resolve, reject) => (this.#fail = reject));
    // Every wait rejects with this failure; between two waits it must not count as unhandled.
    this.#failure.catch(() => undefined);
  }

  /** Waits for a promise, or rejects with the first failure of a thread. */
  orFailure<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([this.#failure, promise]);
  }

  /** Gives a batch to a thread, as soon as one can take it. */
  async count(batch: Batch): Promise<void> {
    const thread = this.#free() ?? this.#start();
    if (thread !== undefined) {
      this.#give(thread, batch);
      return;
    }
    await this.orFailure(Promise.race(this.#threads.map((one) => one.nextCounted)));
    await this.count(batch);
  }

  /** Returns the parts, when all batches have been counted. */
  async parts(): Promise<Parts[Kind][]> {
    return this.orFailure(Promise.all(this.#threads.map((thread) => thread.part())));
  }

  async end(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.end()));
  }

  /** Returns the thread with the fewest batches; undefined if it would be better to start another, or to wait. */
  #free(): CountingThread | undefined {
    const mayStart = this.#threads.length < this.#options.threads;
    return this.#threads
      .filter(({ batches }) => batches < (mayStart ? 1 : BATCHES_AT_ONCE))
      .sort((one, other) => one.batches - other.batches)[0];
  }

  #start(): CountingThread | undefined {
    if (this.#threads.length === this.#options.threads) return undefined;
    const { entry = ENTRY, seeds } = this.#options;
    const worker = new Worker(entry, { workerData: this.#task, resourceLimits: THREAD_LIMITS });
    const thread = new CountingThread(worker, seeds, this.#fail);
    this.#threads.push(thread);
    return thread;
  }

  #give(thread: CountingThread, batch: Batch): void {
    thread.count(batch, () => {
      this.#counted += batch.objects;
      this.#options.counted?.(this.#counted);
    });
  }
}

class CountingThread {
  readonly #worker: Worker;
  readonly #seeds: Seeds | undefined;
  readonly #fail: (error: unknown) => void;
  /** What to do when each batch has been counted, in their order. */
  readonly #counted: (() => void)[] = [];
  #part: ((part: Parts[Kind]) => void) | undefined;
  #wake: () => void = () => undefined;
  #nextCounted: Promise<void>;

  constructor(worker: Worker, seeds: Seeds | undefined, fail: (error: unknown) => void) {
    this.#worker = worker;
    this.#seeds = seeds;
    this.#fail = fail;
    this.#nextCounted = this.#newWait();
    worker.on("message", (message: FromThread) => {
      this.#receive(message);
    });
    worker.on("messageerror", fail);
    worker.on("error", (error) => {
      fail(new KmsError("INTERNAL", `a thread has failed: ${error.message}; repeat the command`, error));
    });
    worker.on("exit", () => {
      fail(new KmsError("INTERNAL", "a thread has ended before its result; repeat the command"));
    });
  }

  get batches(): number {
    return this.#counted.length;
  }

  /** Settles when another batch has been counted. */
  get nextCounted(): Promise<void> {
    return this.#nextCounted;
  }

  count({ bytes }: Batch, counted: () => void): void {
    this.#counted.push(counted);
    const own = ownBytes(bytes);
    this.#send({ kind: "batch", bytes: own }, [own.buffer]);
  }

  /** Returns the thread's part of the result. */
  part(): Promise<Parts[Kind]> {
    return new Promise((resolve) => {
      this.#part = resolve;
      this.#sendEnd();
    });
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  #receive(message: FromThread): void {
    if (message.kind === "failure") this.#fail(receivedError(message.failure));
    else if (message.kind === "part") this.#part?.(message.part);
    else if (message.kind === "seed") void this.#answer(message.id, message.question);
    else {
      this.#counted.shift()?.();
      this.#wake();
      this.#nextCounted = this.#newWait();
      this.#sendEnd();
    }
  }

  /** A batch that waits for a seed may be counted after a later one, so the end waits for all. */
  #sendEnd(): void {
    if (this.#part !== undefined && this.#counted.length === 0) this.#send({ kind: "end" });
  }

  async #answer(id: number, question: Parameters<Seeds["get"]>[0]): Promise<void> {
    try {
      if (this.#seeds === undefined) throw new TypeError("no seed was expected to be needed");
      this.#send({ kind: "seed", id, outcome: sentOutcome(await this.#seeds.get(question)) });
    } catch (error) {
      this.#fail(error);
    }
  }

  #newWait(): Promise<void> {
    return new Promise((resolve) => (this.#wake = resolve));
  }

  #send(message: ToThread, transferred: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transferred);
  }
}

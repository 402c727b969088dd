// This node's memory of its own answers: the key_id that it published last, when Status and Encrypt last answered under
// each key_id, and when the memory began. `keys destroy` relies on it, so it claims too little rather than too much:
// times of an earlier process count as the latest possible, a clock that is set forward moves the beginning forward,
// and every key that the token held when the memory began is older than the memory.
import { z } from "zod";
import { mayHaveHadKeyId } from "../hsm/key-id.js";
import type { Log } from "../log.js";

/** The key_id that this node published last, kept across restarts. */
export interface Published {
  readonly keyId: string;
  /** ms since the epoch; null for a plain label. */
  readonly activation: number | null;
}

/** Remembers the key_id published last. */
export interface PublishedMemory {
  load(): Published | undefined;
  /** Records a key_id that is about to be published. @throws Error */
  save(published: Published): void;
}

/** Storage that outlives the process. */
export interface KeyMemoryStore {
  /** Returns the document saved last; undefined if there is none or it cannot be read. */
  load(): unknown;
  /** Stores a document. @throws Error */
  save(document: object): void;
}

/**
 * Latest times at which Status and Encrypt can have answered under a key_id: ms since the epoch by the present clock.
 */
export interface Answered {
  readonly keyId: string;
  readonly statusAt: number | null;
  readonly encryptAt: number | null;
}

const instant = z.number().nullable();
const published = z.object({ keyId: z.string(), activation: instant });
/** Version 1. Earlier releases wrote only the published key_id, without a version. */
const document = z.object({
  version: z.literal(1),
  since: z.number(),
  atBeginning: z.array(z.string()).nullable(),
  answered: z.array(z.object({ keyId: z.string(), statusAt: instant, encryptAt: instant })),
});

/** Smaller steps of the clock, in ms, are ordinary corrections. */
const STEP_MS = 1_000;
/**
 * When the key_ids of the first reading are stored, in ms, partly at random. Each write waits for the disk, and
 * otherwise many clusters would write at the same time, before the first proofs.
 */
const FIRST_STORE = { afterMs: 2_000, withinMs: 8_000 };
/** Beyond this number, the key_id whose last answer is longest ago is forgotten. */
const MOST_KEY_IDS = 256;

/** Returns the key_ids under which a node answered, as its memory was stored last. */
export function usedKeyIds(store: KeyMemoryStore): string[] {
  return (document.safeParse(store.load()).data?.answered ?? []).map(({ keyId }) => keyId);
}

/** The storage and the clocks of the memory. */
export interface KeyMemoryOptions {
  readonly store: KeyMemoryStore;
  readonly log: Log;
  /** Wall clock, ms since the epoch. */
  readonly now: () => number;
  /** Monotonic clock, in ms. */
  readonly uptime: () => number;
}

/** Times are kept by the monotonic clock. */
interface Times {
  statusAt: number | null;
  encryptAt: number | null;
}

/** Remembers which key_ids this node published and answered under, and when. */
export class KeyMemory implements PublishedMemory {
  readonly #options: KeyMemoryOptions;
  #published: Published | undefined;
  readonly #answered = new Map<string, Times>();
  #since: number;
  #atBeginning: ReadonlySet<string> | undefined;
  /** Wall clock minus monotonic clock, as last seen. */
  #offset: number;
  /** Stores the key_ids of the first reading. */
  #later: NodeJS.Timeout | undefined;

  constructor(options: KeyMemoryOptions) {
    this.#options = options;
    this.#since = options.now();
    this.#offset = this.#clockOffset();
    const saved = options.store.load();
    this.#published = published.safeParse(saved).data;
    const known = document.safeParse(saved).data;
    if (known !== undefined) this.#recall(known);
  }

  /** The instant since which every answer is remembered, in ms since the epoch by this node's clock. */
  get since(): number {
    return this.#since + this.#clockStep();
  }

  /** Returns whether the KEK of a key_id was not yet on the token when the memory began, under any name. */
  isOlderThan(keyId: string): boolean {
    const atBeginning = this.#atBeginning;
    return atBeginning !== undefined && ![...atBeginning].some((known) => mayHaveHadKeyId([keyId], known));
  }

  answered(): Answered[] {
    return [...this.#answered].map(([keyId, { statusAt, encryptAt }]) => ({
      keyId,
      statusAt: this.#wall(statusAt),
      encryptAt: this.#wall(encryptAt),
    }));
  }

  load(): Published | undefined {
    return this.#published;
  }

  /** Records a key_id that is about to be published; throws an Error and changes nothing if that fails. */
  save(next: Published): void {
    this.#noteClock();
    const before = { published: this.#published, times: this.#answered.get(next.keyId) };
    this.#published = next;
    this.#note(next.keyId, "statusAt");
    try {
      this.#store();
    } catch (error) {
      this.#published = before.published;
      if (before.times === undefined) this.#answered.delete(next.keyId);
      throw error;
    }
  }

  statusAnswered(keyId: string): void {
    this.#noteClock();
    this.#note(keyId, "statusAt");
  }

  encryptAnswered(keyId: string): void {
    this.#note(keyId, "encryptAt");
  }

  /** Records the key_ids on the token after a reading. Those of the first reading are older than a new memory. */
  keysRead(keyIds: () => readonly string[]): void {
    this.#noteClock();
    if (this.#atBeginning !== undefined) return;
    this.#atBeginning = new Set(keyIds());
    // If the process ends before that, the memory begins with the next process.
    const inMs = FIRST_STORE.afterMs + Math.random() * FIRST_STORE.withinMs;
    this.#later = setTimeout(() => {
      this.#tryToStore();
    }, inMs).unref();
  }

  /** Stores the times of the last answers. */
  close(): void {
    this.#noteClock();
    this.#tryToStore();
  }

  #recall({ since, atBeginning, answered }: z.infer<typeof document>): void {
    const { now, uptime } = this.#options;
    this.#since = since;
    this.#atBeginning = atBeginning === null ? undefined : new Set(atBeginning);
    const byUptime = (time: number | null): number | null =>
      time === null ? null : uptime() - Math.max(0, now() - time);
    for (const { keyId, statusAt, encryptAt } of answered) {
      // The process that wrote this document continued to answer under the last key_id for an unknown time.
      const isLast = keyId === this.#published?.keyId;
      const times = { statusAt: byUptime(statusAt), encryptAt: byUptime(encryptAt) };
      this.#answered.set(keyId, isLast ? { statusAt: uptime(), encryptAt: uptime() } : times);
    }
  }

  #note(keyId: string, what: keyof Times): void {
    const times = this.#answered.get(keyId) ?? { statusAt: null, encryptAt: null };
    times[what] = this.#options.uptime();
    this.#answered.set(keyId, times);
    if (this.#answered.size > MOST_KEY_IDS) this.#forgetOldest();
  }

  /** Moves the beginning of the memory to the last use of the forgotten KEK, which withdraws every claim about it. */
  #forgetOldest(): void {
    const latest = ({ statusAt, encryptAt }: Times): number =>
      Math.max(statusAt ?? -Infinity, encryptAt ?? -Infinity);
    const [oldest] = [...this.#answered].sort(([, one], [, other]) => latest(one) - latest(other));
    if (oldest === undefined) return;
    this.#answered.delete(oldest[0]);
    this.#since = Math.max(this.#since, this.#wall(latest(oldest[1])) ?? this.#since);
  }

  /**
   * Accounts for a clock that was set forward: it was behind for an unknown time, so the memory began that much later.
   */
  #noteClock(): void {
    const step = this.#clockStep();
    this.#offset = this.#clockOffset();
    if (step === 0) return;
    this.#since += step;
    this.#options.log.warn({ aheadMs: Math.round(step) }, "this node's clock was set forward");
    this.#tryToStore();
  }

  /** Returns by how much the clock was set forward since it was last noted, in ms; 0 for corrections. */
  #clockStep(): number {
    const step = this.#clockOffset() - this.#offset;
    return step < STEP_MS ? 0 : step;
  }

  #clockOffset(): number {
    return this.#options.now() - this.#options.uptime();
  }

  #wall(time: number | null): number | null {
    const { now, uptime } = this.#options;
    return time === null ? null : Math.round(now() - (uptime() - time));
  }

  #store(): void {
    clearTimeout(this.#later);
    this.#options.store.save({
      version: 1,
      keyId: this.#published?.keyId ?? null,
      activation: this.#published?.activation ?? null,
      since: Math.round(this.#since),
      atBeginning: this.#atBeginning === undefined ? null : [...this.#atBeginning],
      answered: [...this.#answered].map(([keyId, { statusAt, encryptAt }]) => ({
        keyId,
        statusAt: this.#wall(statusAt),
        encryptAt: this.#wall(encryptAt),
      })),
    });
  }

  /** Stores the memory if possible; a failure only weakens later claims. */
  #tryToStore(): void {
    try {
      this.#store();
    } catch (error) {
      this.#options.log.warn({ err: error }, "the state directory cannot record which key_ids were used");
    }
  }
}

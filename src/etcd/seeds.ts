// The DEK seeds of stored objects: each distinct one is loaded once, even if many objects ask for it at the same time, and a
// refusal is remembered like a seed. Does not know how a seed is loaded: by the HSM (hsm-seeds.ts), or by the thread that
// has the HSM (threads/). Seeds are KeyObjects, whose memory OpenSSL clears when they are collected.
import type { KeyObject } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { KmsError } from "../errors.js";
import { cacheName } from "../provider/cache-name.js";
import type { EncryptedObject } from "./stored-object.js";

/** A cluster has one seed per start of an API server and per rotation; each takes about 500 bytes here. */
const MAX_SEEDS = 50_000;
/** Seeds that are found without a digest, at 300 to 1,200 bytes each. */
const MAX_RECENT = 4_096;

/** What determines a DEK seed. */
export type SeedQuestion = Pick<EncryptedObject, "keyId" | "encryptedSeed" | "annotations">;

export type SeedOutcome = { readonly seed: KeyObject } | { readonly refusal: KmsError };

/** Loads a seed. Rejects with a KmsError that says nothing about the object, such as an HSM that is away. */
export type LoadSeed = (question: SeedQuestion) => Promise<SeedOutcome>;

export class Seeds {
  readonly #load: LoadSeed;
  readonly #outcomes = new LRUCache<string, SeedOutcome>({ max: MAX_SEEDS });
  readonly #loading = new Map<string, Promise<SeedOutcome>>();
  #recent = new Map<string, { readonly question: SeedQuestion; readonly outcome: SeedOutcome }>();

  constructor(load: LoadSeed) {
    this.#load = load;
  }

  /** Returns the seed or its refusal; a promise if it must be loaded, which rejects if that was not possible. */
  get(question: SeedQuestion): SeedOutcome | Promise<SeedOutcome> {
    const { keyId, encryptedSeed, annotations } = question;
    const text = latin1(encryptedSeed);
    const recent = this.#recent.get(text);
    if (recent !== undefined && haveSameContext(recent.question, question)) return recent.outcome;
    const name = cacheName(keyId, encryptedSeed, annotations);
    const outcome = this.#outcomes.get(name);
    if (outcome === undefined) return this.#loading.get(name) ?? this.#loadOnce(name, question);
    this.#remember(text, question, outcome);
    return outcome;
  }

  /** Forgets every seed. */
  clear(): void {
    this.#recent.clear();
    this.#outcomes.clear();
  }

  #loadOnce(name: string, question: SeedQuestion): Promise<SeedOutcome> {
    const loading = this.#load(question).then((outcome) => {
      this.#outcomes.set(name, outcome);
      return outcome;
    });
    this.#loading.set(name, loading);
    const ended = (): void => {
      this.#loading.delete(name);
    };
    loading.then(ended, ended);
    return loading;
  }

  /** The question is copied, since its fields are views of a page. */
  #remember(text: string, { keyId, encryptedSeed, annotations }: SeedQuestion, outcome: SeedOutcome): void {
    if (this.#recent.size >= MAX_RECENT) this.#recent = new Map();
    const question = copyOf({ keyId, encryptedSeed, annotations });
    this.#recent.set(text, { question, outcome });
  }
}

/** Returns a question whose bytes are buffers of their own. */
export function copyOf({ keyId, encryptedSeed, annotations }: SeedQuestion): SeedQuestion {
  return {
    keyId,
    encryptedSeed: new Uint8Array(encryptedSeed),
    annotations: Object.fromEntries(
      Object.entries(annotations).map(([name, content]) => [name, new Uint8Array(content)]),
    ),
  };
}

function haveSameContext(one: SeedQuestion, other: SeedQuestion): boolean {
  if (one.keyId !== other.keyId) return false;
  const names = Object.keys(one.annotations);
  return (
    names.length === Object.keys(other.annotations).length &&
    names.every((name) => isEqual(one.annotations[name], other.annotations[name]))
  );
}

function isEqual(one: Uint8Array | undefined, other: Uint8Array | undefined): boolean {
  return one !== undefined && other !== undefined && Buffer.compare(one, other) === 0;
}

function latin1({ buffer, byteOffset, length }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, length).toString("latin1");
}

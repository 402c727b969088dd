// Verifies that every stored object can be decrypted with this HSM. Counts results by resource and groups failures by
// reason. Zeroes plaintext as soon as it has authenticated. Memory does not grow with the number of objects.
import { KmsError } from "../errors.js";
import { Allowance } from "./bounded-set.js";
import { openData } from "./data-key.js";
import type { SeedOutcome, Seeds } from "./seeds.js";
import { parseStorageKey, resourceOf } from "./storage-key.js";
import type { StoredObject } from "./store.js";
import type { EncryptedObject } from "./stored-object.js";
import { UnreadableObjects, unreadableObject, type Stage, type UnreadableResult } from "./unreadable.js";

export interface ResourceVerdict {
  readonly resource: string;
  readonly objects: number;
  /** Decrypted and authenticated under their etcd keys. */
  readonly opened: number;
  /** In clear, so there is nothing to decrypt. */
  readonly plaintext: number;
  /** Not checked, since another provider encrypted them. */
  readonly otherProvider: number;
  readonly failed: number;
}

export interface FailureReason {
  readonly reason: string;
  readonly objects: number;
  /** The first few keys. */
  readonly keys: readonly string[];
}

export interface VerificationResult {
  readonly resources: readonly ResourceVerdict[];
  readonly failures: readonly FailureReason[];
  /** Only if objects are listed one by one. */
  readonly unreadable?: UnreadableResult;
}

const MAX_KEYS = 5;
const MAX_REASONS = 100;
const MAX_RESOURCES = 10_000;
const OTHER_REASONS = "other reasons";

type Outcome = Exclude<keyof ResourceVerdict, "resource" | "objects">;
type Counts = Record<Outcome, number>;

export class Verification {
  readonly #seeds: Seeds;
  readonly #prefix: string;
  readonly #resources = new Map<string, Counts>();
  readonly #allowance = new Allowance(MAX_RESOURCES);
  readonly #failures = new Map<string, { objects: number; keys: string[] }>();
  readonly #unreadable: UnreadableObjects | undefined;

  /** @param listed how many objects that cannot be decrypted are listed one by one; default: none */
  constructor(seeds: Seeds, prefix: string, listed = 0) {
    this.#seeds = seeds;
    this.#prefix = prefix;
    this.#unreadable = listed > 0 ? new UnreadableObjects(listed) : undefined;
  }

  /**
   * Verifies one object; at once, or with a promise if its DEK seed must be loaded first.
   * @throws KmsError if the seed cannot be loaded, so that the object was not checked; INPUT_INVALID for too many
   * resources
   */
  add(stored: StoredObject): void | Promise<void> {
    const { key, value } = stored;
    if (value instanceof KmsError) this.#count(key, this.#fail(stored, "value", value));
    else if (value.kind === "plaintext") this.#count(key, "plaintext");
    else if (value.kind === "other-provider") {
      this.#count(key, "otherProvider");
      const provider = `${value.provider}:${value.keyName}`;
      this.#unreadable?.addForeign({ provider, objects: 1, example: key });
    } else {
      const { object } = value;
      const seed = this.#seeds.get(object);
      if (!(seed instanceof Promise)) this.#count(key, this.#open(stored, object, seed));
      else {
        return seed.then((loaded) => {
          this.#count(key, this.#open(stored, object, loaded));
        });
      }
    }
  }

  /** Adds the result of another verification of other objects. @throws KmsError INPUT_INVALID for too many resources */
  merge({ resources, failures, unreadable }: VerificationResult): void {
    for (const { resource, opened, plaintext, otherProvider, failed } of resources) {
      const counts = this.#countsOf(resource);
      counts.opened += opened;
      counts.plaintext += plaintext;
      counts.otherProvider += otherProvider;
      counts.failed += failed;
    }
    for (const { reason, objects, keys } of failures) this.#addFailure(reason, objects, keys);
    if (unreadable !== undefined) this.#unreadable?.merge(unreadable);
  }

  result(): VerificationResult {
    const resources = [...this.#resources]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([resource, counts]) => ({
        resource,
        objects: Object.values(counts).reduce((sum, count) => sum + count, 0),
        ...counts,
      }));
    const failures = [...this.#failures]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([reason, failure]) => ({ reason, ...failure }));
    return {
      resources,
      failures,
      ...(this.#unreadable !== undefined && { unreadable: this.#unreadable.result() }),
    };
  }

  #open(stored: StoredObject, { encryptedData, seedUse }: EncryptedObject, outcome: SeedOutcome): Outcome {
    if ("refusal" in outcome) return this.#fail(stored, "seed", outcome.refusal);
    try {
      openData(outcome.seed, seedUse, encryptedData, stored.key).fill(0);
      return "opened";
    } catch (error) {
      return this.#fail(stored, "data", KmsError.from(error));
    }
  }

  #count(key: string, outcome: Outcome): void {
    this.#countsOf(resourceOf(parseStorageKey(key, this.#prefix)))[outcome]++;
  }

  #countsOf(resource: string): Counts {
    let counts = this.#resources.get(resource);
    if (counts === undefined) {
      this.#allowance.require("resources");
      counts = { opened: 0, plaintext: 0, otherProvider: 0, failed: 0 };
      this.#resources.set(resource, counts);
    }
    return counts;
  }

  #fail(stored: StoredObject, stage: Stage, error: KmsError): "failed" {
    this.#addFailure(error.message, 1, [stored.key]);
    this.#unreadable?.add(unreadableObject(stored, this.#prefix, stage, error));
    return "failed";
  }

  #addFailure(message: string, objects: number, keys: readonly string[]): void {
    const isNew = !this.#failures.has(message);
    const reason = isNew && this.#failures.size >= MAX_REASONS ? OTHER_REASONS : message;
    const failure = this.#failures.get(reason) ?? { objects: 0, keys: [] };
    failure.objects += objects;
    failure.keys = firstOf([...failure.keys, ...keys], MAX_KEYS);
    this.#failures.set(reason, failure);
  }
}

/** Returns the first keys in their order, whatever the order in which objects were read. */
export function firstOf(keys: readonly string[], most: number): string[] {
  return [...keys].sort().slice(0, most);
}

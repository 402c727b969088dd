// Verifies that every stored object can be decrypted with this HSM. Counts results by resource and groups failures by
// reason. Zeroes plaintext as soon as it has authenticated. Memory does not grow with the number of objects.
import { KmsError } from "../errors.js";
import { meansHsmAway } from "../hsm/away.js";
import { Allowance } from "./bounded-set.js";
import type { Opener } from "./opener.js";
import { parseStorageKey, resourceOf } from "./storage-key.js";
import type { StoredObject } from "./store.js";

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
}

const MAX_KEYS = 5;
const MAX_REASONS = 100;
const MAX_RESOURCES = 10_000;
const OTHER_REASONS = "other reasons";

type Outcome = Exclude<keyof ResourceVerdict, "resource" | "objects">;
type Counts = Record<Outcome, number>;

export class Verification {
  readonly #opener: Opener;
  readonly #prefix: string;
  readonly #resources = new Map<string, Counts>();
  readonly #allowance = new Allowance(MAX_RESOURCES);
  readonly #failures = new Map<string, { objects: number; keys: string[] }>();

  constructor(opener: Opener, prefix: string) {
    this.#opener = opener;
    this.#prefix = prefix;
  }

  /**
   * Verifies one object.
   * @throws KmsError if the HSM is away and the object was not checked; INPUT_INVALID for too many resources
   */
  async add(object: StoredObject): Promise<void> {
    const outcome = await this.#outcomeOf(object);
    const resource = resourceOf(parseStorageKey(object.key, this.#prefix));
    let counts = this.#resources.get(resource);
    if (counts === undefined) {
      this.#allowance.require("resources");
      counts = { opened: 0, plaintext: 0, otherProvider: 0, failed: 0 };
      this.#resources.set(resource, counts);
    }
    counts[outcome]++;
  }

  result(): VerificationResult {
    const resources = [...this.#resources]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([resource, counts]) => ({
        resource,
        objects: Object.values(counts).reduce((sum, count) => sum + count, 0),
        ...counts,
      }));
    const failures = [...this.#failures].map(([reason, failure]) => ({ reason, ...failure }));
    return { resources, failures };
  }

  async #outcomeOf({ key, value }: StoredObject): Promise<Outcome> {
    if (value instanceof KmsError) return this.#fail(key, value);
    if (value.kind === "plaintext") return "plaintext";
    if (value.kind === "other-provider") return "otherProvider";
    try {
      (await this.#opener.open(key, value.object)).fill(0);
      return "opened";
    } catch (error) {
      const reason = KmsError.from(error);
      if (meansHsmAway(reason)) throw reason;
      return this.#fail(key, reason);
    }
  }

  #fail(key: string, { message }: KmsError): "failed" {
    const isNew = !this.#failures.has(message);
    const reason = isNew && this.#failures.size >= MAX_REASONS ? OTHER_REASONS : message;
    const failure = this.#failures.get(reason) ?? { objects: 0, keys: [] };
    failure.objects++;
    if (failure.keys.length < MAX_KEYS) failure.keys.push(key);
    this.#failures.set(reason, failure);
    return "failed";
  }
}

// The objects that a verification could not decrypt, one by one and with the cause, and the providers that it did not check.
// Keeps those whose keys come first, so that memory does not grow with the number of objects.
import type { ErrorCode, KmsError } from "../errors.js";
import { resourceOf, parseStorageKey } from "./storage-key.js";
import type { StoredObject } from "./store.js";

/** Why an object cannot be decrypted. */
export const CAUSES = [
  /** No KEK with its key_id is on a token. */
  "unknown-key-id",
  /** Its DEK seed or its data does not authenticate, or is malformed. */
  "damaged",
  /** The stored value is neither an encrypted object nor a Kubernetes object. */
  "envelope",
  /** The KEK exists but was not able to answer, which says nothing about the object. */
  "unproven",
] as const;

export type Cause = (typeof CAUSES)[number];

export interface UnreadableObject {
  /** The etcd key. */
  readonly key: string;
  readonly resource: string;
  readonly modRevision: number;
  readonly cause: Cause;
  /** Null if the envelope could not be read. */
  readonly keyId: string | null;
  /** The name of the provider in the EncryptionConfiguration; null if the envelope could not be read. */
  readonly provider: string | null;
  readonly reason: string;
}

/** Objects that other providers encrypted, which a verification does not check. */
export interface ForeignObjects {
  /** As in the stored prefix: `aescbc:v1:key1`. */
  readonly provider: string;
  readonly objects: number;
  /** The first etcd key. */
  readonly example: string;
}

export interface UnreadableResult {
  readonly objects: readonly UnreadableObject[];
  readonly foreign: readonly ForeignObjects[];
}

const MAX_FOREIGN = 1_000;
const OTHER_PROVIDERS = "other providers";

export class UnreadableObjects {
  readonly #most: number;
  #objects: UnreadableObject[] = [];
  readonly #foreign = new Map<string, ForeignObjects>();

  /** @param most the number of objects to keep */
  constructor(most: number) {
    this.#most = most;
  }

  add(object: UnreadableObject): void {
    this.#objects.push(object);
    if (this.#objects.length >= 2 * this.#most) this.#cut();
  }

  addForeign({ provider, objects, example }: ForeignObjects): void {
    const isNew = !this.#foreign.has(provider);
    const name = isNew && this.#foreign.size >= MAX_FOREIGN ? OTHER_PROVIDERS : provider;
    const known = this.#foreign.get(name);
    this.#foreign.set(name, {
      provider: name,
      objects: (known?.objects ?? 0) + objects,
      example: known === undefined || example < known.example ? example : known.example,
    });
  }

  merge({ objects, foreign }: UnreadableResult): void {
    for (const object of objects) this.add(object);
    for (const one of foreign) this.addForeign(one);
  }

  /** Returns what was added, sorted. */
  result(): UnreadableResult {
    this.#cut();
    const foreign = [...this.#foreign.values()].sort((a, b) => (a.provider < b.provider ? -1 : 1));
    return { objects: this.#objects, foreign };
  }

  #cut(): void {
    this.#objects.sort((a, b) => (a.key < b.key ? -1 : 1));
    this.#objects = this.#objects.slice(0, this.#most);
  }
}

/** Where the decryption of an object failed: at its value, at its DEK seed, or at its data. */
export type Stage = "value" | "seed" | "data";

/** Returns what a failed decryption says about an object. */
export function unreadableObject(
  { key, modRevision, value }: StoredObject,
  prefix: string,
  stage: Stage,
  { code, message }: KmsError,
): UnreadableObject {
  const isKms = "kind" in value && value.kind === "kms-v2";
  return {
    key,
    resource: resourceOf(parseStorageKey(key, prefix)),
    modRevision,
    cause: causeOf(stage, code),
    keyId: isKms ? value.object.keyId : null,
    provider: isKms ? value.providerName : null,
    reason: message,
  };
}

/** Only an answer of the key itself says that a DEK seed is damaged; anything else says nothing about it. */
function causeOf(stage: Stage, code: ErrorCode): Cause {
  if (stage === "value") return "envelope";
  if (stage === "data" || code === "NOT_AUTHENTIC" || code === "INPUT_INVALID") return "damaged";
  return code === "KEY_UNKNOWN" ? "unknown-key-id" : "unproven";
}

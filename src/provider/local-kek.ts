// Mode `local-kek`: a 256-bit key made in this process, wrapped once by the HSM and carried in an annotation, seals DEK
// seeds in this process with AES-256-GCM. IVs are random; a key has at most 2^20 uses, far below the 2^32 of NIST SP
// 800-38D section 8.3. Associated data bind it to its KEK. It exists in memory only, and every process makes its own.
import { createSecretKey, randomBytes, type KeyObject } from "node:crypto";
import { LRUCache } from "lru-cache";
import { KmsError } from "../errors.js";
import { openSealed, sealUnder } from "../aead.js";
import { mayHaveHadKeyId } from "../hsm/key-id.js";
import { BACKGROUND_CALLER, PATIENT_CALLER, type Caller } from "../hsm/port.js";
import { associatedData, encodeEnvelope, LOCAL_KEK, PLAIN_FORMAT } from "./envelope.js";
import type { Annotations } from "./kms.js";

/** The annotation that carries the wrapped local KEK: a fully qualified domain name without a slash. */
export const LOCAL_KEK_ANNOTATION = "local-kek.kms-pkcs11.dev";
/** Length of a local KEK: 256 bits. */
export const LOCAL_KEK_BYTES = 32;
/**
 * Maximum number of unwrapped local KEKs in memory that come from other nodes and earlier times; each takes a few
 * hundred bytes.
 */
const MAX_OPENED = 1_000;
/** The fraction of its uses or age after which a local KEK is replaced in advance. */
const PREPARED_SHARE = 0.8;

/** Wraps and unwraps local KEKs under a KEK; the associated data name this purpose. */
export interface LocalKekWrapper {
  wrap(keyId: string, localKek: Buffer): Promise<Buffer>;
  unwrap(keyId: string, wrapped: Uint8Array, caller?: Caller): Promise<Buffer>;
}

/** When a local KEK is replaced: after this age, in ms, or number of uses. */
export interface LocalKekPolicy {
  readonly maxAgeMs: number;
  readonly maxUses: number;
}

/** A local KEK as its annotation carries it. */
export interface WrappedLocalKek {
  readonly keyId: string;
  readonly wrapped: Uint8Array;
}

interface OpenedLocalKek extends WrappedLocalKek {
  readonly key: KeyObject;
}

interface LocalKek {
  readonly keyId: string;
  readonly key: KeyObject;
  readonly wrapped: Buffer;
  readonly madeAt: number;
  uses: number;
}

/** Makes, caches and replaces local KEKs, and seals and opens DEK seeds with them. */
export class LocalKeks {
  readonly #wrapper: LocalKekWrapper;
  readonly #policy: LocalKekPolicy;
  readonly #now: () => number;
  readonly #opened = new LRUCache<string, OpenedLocalKek>({ max: MAX_OPENED });
  readonly #opening = new Map<string, Promise<KeyObject>>();
  #current: LocalKek | undefined;
  #making: { readonly keyId: string; readonly promise: Promise<LocalKek> } | undefined;
  /** Incremented when local KEKs are forgotten, so that an HSM call in progress does not restore any of them. */
  #removals = 0;
  #changes = 0;

  /** @param now a monotonic clock in ms */
  constructor(wrapper: LocalKekWrapper, policy: LocalKekPolicy, now: () => number = () => performance.now()) {
    this.#wrapper = wrapper;
    this.#policy = policy;
    this.#now = now;
  }

  /** Number of uses of the current local KEK. */
  get uses(): number {
    return this.#current?.uses ?? 0;
  }

  /** Increases whenever a local KEK comes into memory or is forgotten. */
  get changes(): number {
    return this.#changes;
  }

  /** Returns the local KEKs in memory, the most recently used first. */
  *opened(): Generator<WrappedLocalKek> {
    for (const [, { keyId, wrapped }] of this.#opened.entries()) yield { keyId, wrapped };
  }

  /**
   * Unwraps a local KEK that no request has asked for; every request goes first. Returns false if it is known already or
   * there is no space for it. @throws KmsError
   */
  async unwrapAhead(keyId: string, wrapped: Uint8Array): Promise<boolean> {
    const name = nameOf(keyId, wrapped);
    if (this.#opened.has(name) || this.#opened.size >= MAX_OPENED) return false;
    await this.#unwrap(keyId, wrapped, BACKGROUND_CALLER);
    return true;
  }

  /** Makes a new local KEK in advance: an outage must not begin with one that is about to expire. */
  async prepare(keyId: string): Promise<void> {
    if (this.#usable(keyId, PREPARED_SHARE) === undefined) await this.#make(keyId);
  }

  /** Seals a DEK seed under the current local KEK of this KEK. Only a new local KEK costs an HSM call. */
  async seal(
    keyId: string,
    plaintext: Uint8Array,
  ): Promise<{ ciphertext: Buffer; annotations: Annotations }> {
    const local = await this.#use(keyId);
    const body = sealUnder(local.key, associatedData(PLAIN_FORMAT, LOCAL_KEK, keyId), plaintext);
    return {
      ciphertext: encodeEnvelope(PLAIN_FORMAT, LOCAL_KEK, body),
      annotations: { [LOCAL_KEK_ANNOTATION]: local.wrapped },
    };
  }

  /** Returns the local KEK of an annotation if it has been unwrapped before. */
  known(keyId: string, wrapped: Uint8Array): KeyObject | undefined {
    return this.#opened.get(nameOf(keyId, wrapped))?.key;
  }

  /** Opens a body with the local KEK of its annotation, with at most one HSM call for each local KEK. */
  async open(keyId: string, wrapped: Uint8Array, body: Uint8Array): Promise<Buffer> {
    const key = this.known(keyId, wrapped) ?? (await this.#unwrapShared(keyId, wrapped));
    return openBody(key, keyId, body);
  }

  /** Forgets every local KEK that may be under this KEK, by its key_id or an earlier one. */
  dropKey(keyId: string): void {
    this.#removals++;
    if (this.#current?.keyId === keyId) this.#current = undefined;
    this.#changes++;
    for (const [name, entry] of this.#opened.entries()) {
      if (mayHaveHadKeyId([keyId], entry.keyId)) this.#opened.delete(name);
    }
  }

  clear(): void {
    this.#removals++;
    this.#current = undefined;
    this.#opened.clear();
  }

  /** Counts a use. More requests may have waited for one local KEK than it has uses left. */
  async #use(keyId: string): Promise<LocalKek> {
    for (;;) {
      const local = this.#usable(keyId) ?? (await this.#make(keyId));
      if (local.uses >= this.#policy.maxUses) continue;
      local.uses++;
      return local;
    }
  }

  /**
   * Returns the current local KEK if it belongs to this KEK and has used up less than this fraction of its uses and
   * age.
   */
  #usable(keyId: string, part = 1): LocalKek | undefined {
    const local = this.#current;
    const { maxUses, maxAgeMs } = this.#policy;
    if (local?.keyId !== keyId || local.uses >= part * maxUses) return undefined;
    return this.#now() - local.madeAt < part * maxAgeMs ? local : undefined;
  }

  #make(keyId: string): Promise<LocalKek> {
    if (this.#making?.keyId === keyId) return this.#making.promise;
    const promise = this.#makeOnce(keyId).finally(() => {
      if (this.#making?.promise === promise) this.#making = undefined;
    });
    this.#making = { keyId, promise };
    return promise;
  }

  async #makeOnce(keyId: string): Promise<LocalKek> {
    const removals = this.#removals;
    const bytes = randomBytes(LOCAL_KEK_BYTES);
    try {
      const wrapped = await this.#wrapper.wrap(keyId, bytes);
      const local = { keyId, key: createSecretKey(bytes), wrapped, madeAt: this.#now(), uses: 0 };
      if (removals === this.#removals) {
        this.#remember(local);
        this.#current = local;
      }
      return local;
    } finally {
      bytes.fill(0);
    }
  }

  #remember({ keyId, key, wrapped }: OpenedLocalKek): void {
    this.#opened.set(nameOf(keyId, wrapped), { keyId, key, wrapped });
    this.#changes++;
  }

  #unwrapShared(keyId: string, wrapped: Uint8Array): Promise<KeyObject> {
    const name = nameOf(keyId, wrapped);
    const running = this.#opening.get(name);
    if (running !== undefined) return running;
    const opening = this.#unwrap(keyId, wrapped, PATIENT_CALLER).finally(() => this.#opening.delete(name));
    this.#opening.set(name, opening);
    return opening;
  }

  async #unwrap(keyId: string, wrapped: Uint8Array, caller: Caller): Promise<KeyObject> {
    const removals = this.#removals;
    const bytes = await this.#wrapper.unwrap(keyId, wrapped, caller);
    try {
      if (bytes.length !== LOCAL_KEK_BYTES) {
        throw new KmsError("NOT_AUTHENTIC", "the local KEK is not 256 bits long");
      }
      const key = createSecretKey(bytes);
      // A copy, since the annotation may be part of a larger message.
      if (removals === this.#removals) this.#remember({ keyId, key, wrapped: Buffer.from(wrapped) });
      return key;
    } finally {
      bytes.fill(0);
    }
  }
}

function nameOf(keyId: string, wrapped: Uint8Array): string {
  return `${keyId} ${Buffer.from(wrapped.buffer, wrapped.byteOffset, wrapped.byteLength).toString("base64")}`;
}

/** Returns the plaintext. @throws KmsError NOT_AUTHENTIC */
function openBody(key: KeyObject, keyId: string, body: Uint8Array): Buffer {
  const plaintext = openSealed(key, associatedData(PLAIN_FORMAT, LOCAL_KEK, keyId), body);
  if (plaintext !== undefined) return plaintext;
  throw new KmsError(
    "NOT_AUTHENTIC",
    `the ciphertext does not authenticate under its local KEK (key_id ${keyId})`,
  );
}

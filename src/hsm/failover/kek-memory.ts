// What a failover set remembers of its KEKs beyond a restart: the key_id first seen under each label and CKA_ID, and a
// canary under each key_id. While the token that showed the key_id is away, only a key that decrypts the canary counts
// as that KEK.
//
// Nothing in it is secret. A canary is 32 random bytes, encrypted by a token that shows the key_id. Its associated data differ
// from those of every seed, so that it never decrypts as one, and only a digest of the random bytes is stored. Whoever writes
// the state directory but cannot encrypt under a key can therefore not make that key pass for a KEK.
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import type { Log } from "../../log.js";
import type { CryptRequest } from "../port.js";

/** Storage that outlives the process. */
export interface KekMemoryStore {
  /** Returns the document saved last; undefined if there is none. @throws Error if it cannot be read */
  load(): unknown;
  /** Stores a document. @throws Error */
  save(document: object): void;
}

/** A store that keeps nothing, for a plugin without a state directory. */
export const NO_KEK_MEMORY: KekMemoryStore = { load: () => undefined, save: () => undefined };

/** The key_id first seen under a label and CKA_ID, and the token that showed it. */
export interface KnownKek {
  readonly label: string;
  readonly ckaId: string;
  readonly keyId: string;
  readonly token: string;
}

const CANARY_BYTES = 32;
const DOMAIN = "kms-pkcs11 failover canary v1";
/** Beyond this number, the oldest entries of each kind are forgotten. */
const MOST_KEPT = 256;

const text = z.string().min(1).max(1_000);
const known = z.object({ label: z.string().max(1_000), ckaId: text, keyId: text, token: text });
const canary = z.object({
  keyId: text,
  mechanism: z.number().int().min(1).max(63),
  body: z.base64().max(4_096),
  digest: z.string().regex(/^[0-9a-f]{64}$/),
});
type Canary = z.infer<typeof canary>;
const document = z.object({ version: z.literal(1), keks: z.array(known), canaries: z.array(canary) });

/** Remembers the KEKs of a failover set. */
export class KekMemory {
  readonly #store: KekMemoryStore;
  readonly #log: Log;
  readonly #known = new Map<string, KnownKek>();
  readonly #canaries = new Map<string, Canary>();
  #isChanged = false;
  #hasWarned = false;

  /** @param tokens names of the configured tokens: what others showed is forgotten */
  constructor(store: KekMemoryStore, tokens: readonly string[], log: Log) {
    this.#store = store;
    this.#log = log;
    for (const kek of this.#load(tokens)) this.#known.set(nameOf(kek), kek);
  }

  /** Returns what is known under the label and CKA_ID of a key. */
  under(key: Pick<KnownKek, "label" | "ckaId">): KnownKek | undefined {
    return this.#known.get(nameOf(key));
  }

  note(kek: KnownKek): void {
    const { keyId, token } = this.under(kek) ?? {};
    if (keyId === kek.keyId && token === kek.token) return;
    remember(this.#known, nameOf(kek), kek);
    this.#isChanged = true;
  }

  /** The key_ids with a canary. */
  get provable(): readonly string[] {
    return [...this.#canaries.keys()];
  }

  /** Returns the request that decrypts the canary of a KEK; undefined if it has none. */
  questionOf(keyId: string): CryptRequest | undefined {
    const kept = this.#canaries.get(keyId);
    if (kept === undefined) return undefined;
    return requestOf(keyId, kept.mechanism, Buffer.from(kept.body, "base64"));
  }

  /** Returns whether a token has decrypted the canary of a KEK to what was encrypted. */
  isAnswer(keyId: string, plaintext: Uint8Array): boolean {
    const kept = this.#canaries.get(keyId);
    return kept !== undefined && timingSafeEqual(digestOf(plaintext), Buffer.from(kept.digest, "hex"));
  }

  /**
   * Makes the canary of a KEK, unless it has one.
   * @param encrypt has a token that shows this key_id encrypt
   * @throws KmsError why it cannot be encrypted
   */
  async addCanary(
    keyId: string,
    mechanism: number,
    encrypt: (request: CryptRequest) => Promise<Buffer>,
  ): Promise<void> {
    if (this.#canaries.has(keyId)) return;
    const plaintext = randomBytes(CANARY_BYTES);
    const body = (await encrypt(requestOf(keyId, mechanism, plaintext))).toString("base64");
    const digest = digestOf(plaintext).toString("hex");
    remember(this.#canaries, keyId, { keyId, mechanism, body, digest });
    this.#isChanged = true;
    this.save();
  }

  /**
   * Forgets what no token shows any more.
   * @param shows whether a token shows this key_id
   * @param holdsLike whether a token holds a key with the CKA_ID that this key_id names
   */
  prune(shows: (keyId: string) => boolean, holdsLike: (keyId: string) => boolean): void {
    for (const [name, { keyId }] of this.#known) if (!shows(keyId)) this.#forget(this.#known, name);
    for (const keyId of this.#canaries.keys()) if (!holdsLike(keyId)) this.#forget(this.#canaries, keyId);
  }

  #forget(map: Map<string, unknown>, name: string): void {
    map.delete(name);
    this.#isChanged = true;
  }

  /** Stores what has changed; a failure is logged once, since only a restart during an outage would need it. */
  save(): void {
    if (!this.#isChanged) return;
    this.#isChanged = false;
    const keks = [...this.#known.values()];
    try {
      this.#store.save({ version: 1, keks, canaries: [...this.#canaries.values()] });
      this.#hasWarned = false;
    } catch (error) {
      this.#isChanged = true;
      if (!this.#hasWarned) {
        this.#log.warn({ err: error }, "the state directory cannot record the KEKs of the failover set");
      }
      this.#hasWarned = true;
    }
  }

  #load(tokens: readonly string[]): KnownKek[] {
    try {
      const saved = this.#store.load();
      if (saved === undefined) return [];
      const { keks, canaries } = document.parse(saved);
      for (const one of canaries.slice(-MOST_KEPT)) this.#canaries.set(one.keyId, one);
      return keks.slice(-MOST_KEPT).filter(({ token }) => tokens.includes(token));
    } catch (error) {
      this.#log.warn(
        { err: error },
        "what the state directory says of the failover set's KEKs cannot be used",
      );
      return [];
    }
  }
}

function remember<V>(map: Map<string, V>, name: string, value: V): void {
  map.delete(name);
  map.set(name, value);
  const [oldest] = map.keys();
  if (map.size > MOST_KEPT && oldest !== undefined) map.delete(oldest);
}

function nameOf({ label, ckaId }: Pick<KnownKek, "label" | "ckaId">): string {
  return `${label} ${ckaId}`;
}

/** The associated data of seeds begin with the envelope's version, 1 or 2, and these with a letter. */
function requestOf(keyId: string, mechanism: number, data: Buffer): CryptRequest {
  return { keyId, mechanism, aad: Buffer.from(`${DOMAIN}\0${mechanism}\0${keyId}`), data };
}

function digestOf(plaintext: Uint8Array): Buffer {
  return createHash("sha256").update(DOMAIN).update(plaintext).digest();
}

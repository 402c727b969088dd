// Encrypt, Decrypt and Status in domain terms: the checks in their order, then the cache, then the HSM. It knows
// neither gRPC nor PKCS#11.
import { KmsError } from "../errors.js";
import { meansHsmAway } from "../hsm/away.js";
import { hasKeyId } from "../hsm/key-id.js";
import { BACKGROUND_CALLER } from "../hsm/port.js";
import type { ActiveKey, UsableChoice } from "./active-key.js";
import { parseEnvelope, type Envelope } from "./envelope.js";
import type { Generation } from "./generations.js";
import type { KekCalls } from "./kek-calls.js";
import type { KeyMemory } from "./key-memory.js";
import type { Keyring } from "./keyring.js";
import {
  MAX_ANNOTATION_BYTES,
  MAX_CIPHERTEXT_BYTES,
  MAX_KEY_ID_BYTES,
  MAX_PLAINTEXT_BYTES,
  type Annotations,
  type DecryptQuestion,
  type EncryptAnswer,
  type KmsProvider,
  type RequestContext,
  type StatusAnswer,
} from "./kms.js";
import { LOCAL_KEK_ANNOTATION, type LocalKeks } from "./local-kek.js";
import type { Outage } from "./outage.js";
import { saysBroken, type Prover } from "./prover.js";
import { cacheName } from "./cache-name.js";
import type { UnwrapCache } from "./unwrap-cache.js";
import { collapseSpaces, truncate } from "../untrusted-text.js";

/** Whether DEK seeds are encrypted under the KEK or under a local KEK. */
export type Mode = "direct" | "local-kek";

/** The parts that a provider is constructed from. */
export interface ProviderParts {
  readonly mode: Mode;
  readonly calls: KekCalls;
  readonly keyring: Keyring;
  readonly prover: Prover;
  readonly active: ActiveKey;
  readonly memory: KeyMemory;
  readonly outage: Outage;
  readonly cache: UnwrapCache;
  readonly localKeks: LocalKeks;
}

/** Answers the three calls of KMS v2. */
export class Provider implements KmsProvider {
  readonly #parts: ProviderParts;

  constructor(parts: ProviderParts) {
    this.#parts = parts;
  }

  status(): StatusAnswer {
    this.#requireReading();
    const answer = this.#answerWith(this.#parts.active.publish());
    this.#parts.memory.statusAnswered(answer.keyId);
    return answer;
  }

  /** Returns what Status would answer now, and changes nothing. @throws KmsError as Status would */
  peekStatus(): StatusAnswer {
    this.#requireReading();
    const choice = this.#parts.active.choose();
    if (choice.generation === undefined) throw choice.refusal;
    return this.#answerWith(choice);
  }

  #requireReading(): void {
    const { keyring, outage } = this.#parts;
    if (keyring.hasRead) return;
    const unread = new KmsError("HSM_UNAVAILABLE", "the HSM has not been read yet");
    throw keyring.error ?? outage.reason ?? unread;
  }

  #answerWith({ generation, heldBack }: UsableChoice): StatusAnswer {
    const { outage, prover } = this.#parts;
    const { keyId } = generation.record;
    const { failure } = prover.proofOf(keyId);
    // What a present but failing KEK encrypts may be unreadable, so no grace period applies.
    if (failure !== undefined && saysBroken(failure)) {
      return this.#unhealthyAnswer(failure, keyId, failure.message);
    }
    if (heldBack !== undefined) return { healthz: healthzText(heldBack.message), keyId };
    if (!outage.graceIsOver || outage.reason === undefined) return { healthz: "ok", keyId };
    return this.#unhealthyAnswer(
      outage.reason,
      keyId,
      `HSM away beyond its grace period: ${outage.reason.message}`,
    );
  }

  /** Reports the reason and lets writes continue, or throws to stop them, depending on health.onHsmLoss. */
  #unhealthyAnswer(reason: KmsError, keyId: string, stopping: string): StatusAnswer {
    const { policy } = this.#parts.outage;
    if (policy.onHsmLoss === "keepWriting") return { healthz: healthzText(reason.message), keyId };
    throw new KmsError(meansHsmAway(reason) ? "HSM_UNAVAILABLE" : reason.code, healthzText(stopping), reason);
  }

  async encrypt(plaintext: Uint8Array, context: RequestContext): Promise<EncryptAnswer> {
    if (plaintext.length < 1 || plaintext.length > MAX_PLAINTEXT_BYTES) {
      throw invalid(`a plaintext has 1 to ${MAX_PLAINTEXT_BYTES} bytes, not ${plaintext.length}`);
    }
    const { active } = this.#parts;
    if (active.published === undefined) this.status();
    for (;;) {
      const keyId = active.published?.record.keyId;
      if (keyId === undefined) throw new KmsError("HSM_UNAVAILABLE", "no KEK is active yet");
      const answer = await this.#encryptUnder(keyId, plaintext, context);
      // If Status has switched meanwhile, this answer would no longer agree with it.
      if (active.published?.record.keyId !== keyId) continue;
      this.#parts.memory.encryptAnswered(keyId);
      return answer;
    }
  }

  async decrypt(question: DecryptQuestion, context: RequestContext): Promise<Uint8Array> {
    checkLengths(question);
    const { keyId, ciphertext } = question;
    const envelope = parseEnvelope(ciphertext);
    const { keyring } = this.#parts;
    const { arrivedAt = context.startedAt } = context;
    const generation = keyring.known(keyId) ?? (await keyring.find(keyId, arrivedAt));
    try {
      return await this.#decryptUnder(generation, question, envelope, context);
    } catch (error) {
      if (hasKeyId(generation.record, keyId) || KmsError.from(error).code !== "KEY_UNKNOWN") throw error;
      // This KEK was only a guess: its CKA_ID matches, but it refused the ciphertext. The one that has the key_id may be
      // new on the token.
      const named = await keyring.findNamed(keyId, arrivedAt);
      if (named === undefined) throw error;
      return this.#decryptUnder(named, question, envelope, context);
    }
  }

  async #decryptUnder(
    { record }: Generation,
    question: DecryptQuestion,
    envelope: Envelope,
    context: RequestContext,
  ): Promise<Uint8Array> {
    const { keyId, ciphertext, annotations } = question;
    if (envelope.kind === "local-kek") {
      return this.#parts.localKeks.open(keyId, wrappedLocalKek(annotations), envelope.body);
    }
    requireNoAnnotations(annotations);
    const name = cacheName(keyId, ciphertext, annotations);
    return this.#parts.cache.get(
      { name, keyId: record.keyId, question },
      (caller) => this.#parts.calls.decrypt(keyId, envelope, caller),
      context,
    );
  }

  /**
   * Has the HSM decrypt a seed without looking into the cache; every request goes first. Never reads the token.
   * @throws KmsError as `decrypt`
   */
  async decryptInBackground(question: DecryptQuestion): Promise<Buffer> {
    checkLengths(question);
    const { keyId, ciphertext, annotations } = question;
    const envelope = parseEnvelope(ciphertext);
    requireNoAnnotations(annotations);
    if (envelope.kind === "direct") return this.#parts.calls.decrypt(keyId, envelope, BACKGROUND_CALLER);
    throw invalid("a ciphertext under a local KEK has its annotation");
  }

  async #encryptUnder(keyId: string, plaintext: Uint8Array, context: RequestContext): Promise<EncryptAnswer> {
    const { mode, localKeks, calls, cache } = this.#parts;
    if (mode === "local-kek") return { keyId, ...(await localKeks.seal(keyId, plaintext)) };
    const answer = { keyId, ciphertext: await calls.encrypt(keyId, plaintext, context), annotations: {} };
    // kube-apiserver also asks for the seed that it encrypts with itself: after a day, and after its next start.
    cache.add({ name: cacheName(keyId, answer.ciphertext, {}), keyId, question: answer }, plaintext);
    return answer;
  }
}

function checkLengths({ ciphertext, keyId, annotations }: DecryptQuestion): void {
  if (ciphertext.length < 1 || ciphertext.length > MAX_CIPHERTEXT_BYTES) {
    throw invalid(`a ciphertext has 1 to ${MAX_CIPHERTEXT_BYTES} bytes, not ${ciphertext.length}`);
  }
  const keyIdBytes = Buffer.byteLength(keyId);
  if (keyIdBytes < 1 || keyIdBytes > MAX_KEY_ID_BYTES) {
    throw invalid(`a key_id has 1 to ${MAX_KEY_ID_BYTES} bytes, not ${keyIdBytes}`);
  }
  let bytes = 0;
  for (const [name, value] of Object.entries(annotations)) bytes += Buffer.byteLength(name) + value.length;
  if (bytes > MAX_ANNOTATION_BYTES) {
    throw invalid(`annotations have at most ${MAX_ANNOTATION_BYTES} bytes, not ${bytes}`);
  }
}

function requireNoAnnotations(annotations: Annotations): void {
  if (Object.keys(annotations).length === 0) return;
  throw invalid("this ciphertext has no annotations; those sent belong to another ciphertext");
}

function wrappedLocalKek(annotations: Annotations): Uint8Array {
  const wrapped = annotations[LOCAL_KEK_ANNOTATION];
  if (wrapped !== undefined && Object.keys(annotations).length === 1) return wrapped;
  throw invalid(`a ciphertext under a local KEK has the annotation ${LOCAL_KEK_ANNOTATION} and no other`);
}

function invalid(message: string): KmsError {
  return new KmsError("INPUT_INVALID", message);
}

/** Returns one short line: the API server shows healthz in its own health error. */
function healthzText(text: string): string {
  return truncate(collapseSpaces(text), 300);
}

// Encrypt, Decrypt and Status in domain terms: the checks in their order, then the cache, then the HSM. No
// gRPC above it and no PKCS#11 below it is known here.
import { KmsError } from "../errors.js";
import type { Mechanism } from "../hsm/mechanisms.js";
import { PATIENT_CALLER, type Hsm } from "../hsm/port.js";
import type { ActiveKey } from "./active-key.js";
import { associatedData, encodeEnvelope, parseEnvelope } from "./envelope.js";
import type { Generation } from "./generations.js";
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
import { LOCAL_KEK_ANNOTATION, LOCAL_KEK_BYTES, type LocalKeks, type LocalKekWrapper } from "./local-kek.js";
import type { Outage } from "./outage.js";
import type { Prover } from "./prover.js";
import { cacheName, type UnwrapCache } from "./unwrap-cache.js";

export type Mode = "direct" | "local-kek";

export interface ProviderParts {
  readonly mode: Mode;
  readonly hsm: Hsm;
  readonly keyring: Keyring;
  readonly prover: Prover;
  readonly active: ActiveKey;
  readonly outage: Outage;
  readonly cache: UnwrapCache;
  readonly localKeks: LocalKeks;
  /** Called when a request found the HSM away, so that it is looked at now and not at the next interval. */
  readonly onHsmTrouble: () => void;
}

/** Part of the associated data under which local KEKs are wrapped: a DEK seed's envelope never opens as one. */
const LOCAL_KEK_PURPOSE = Buffer.from("\0local-kek");

export class Provider implements KmsProvider {
  readonly #parts: ProviderParts;

  constructor(parts: ProviderParts) {
    this.#parts = parts;
  }

  status(): StatusAnswer {
    return this.#answer(() => this.#parts.active.advance());
  }

  /** What Status would answer, without publishing it. @throws KmsError likewise */
  peekStatus(): StatusAnswer {
    return this.#answer(() => this.#parts.active.choose());
  }

  #answer(activeGeneration: () => Generation): StatusAnswer {
    const { active, outage, keyring } = this.#parts;
    if (!keyring.hasRead)
      throw (
        keyring.error ?? outage.reason ?? new KmsError("HSM_UNAVAILABLE", "the HSM has not been read yet")
      );
    const { keyId } = activeGeneration().record;
    if (active.heldBack !== undefined) return { healthz: oneLine(active.heldBack.message), keyId };
    if (!outage.graceIsOver || outage.reason === undefined) return { healthz: "ok", keyId };
    if (outage.policy.onHsmLoss === "keepWriting") return { healthz: oneLine(outage.reason.message), keyId };
    throw new KmsError(
      "HSM_UNAVAILABLE",
      oneLine(`HSM away beyond its grace period: ${outage.reason.message}`),
      outage.reason,
    );
  }

  async encrypt(plaintext: Uint8Array, context: RequestContext): Promise<EncryptAnswer> {
    if (plaintext.length < 1 || plaintext.length > MAX_PLAINTEXT_BYTES) {
      throw invalid(
        `a plaintext has 1 to ${String(MAX_PLAINTEXT_BYTES)} bytes, not ${String(plaintext.length)}`,
      );
    }
    const { active } = this.#parts;
    if (active.published === undefined) this.status();
    for (;;) {
      const keyId = active.published?.record.keyId;
      if (keyId === undefined) throw new KmsError("HSM_UNAVAILABLE", "no KEK is active yet");
      const answer = await this.#encryptUnder(keyId, plaintext, context);
      // Where a Status answer has switched meanwhile, this answer would no longer agree with it.
      if (active.published?.record.keyId === keyId) return answer;
    }
  }

  async decrypt(question: DecryptQuestion, context: RequestContext): Promise<Uint8Array> {
    checkLengths(question);
    const { keyId, ciphertext, annotations } = question;
    const envelope = parseEnvelope(ciphertext);
    const generation = await this.#parts.keyring.find(keyId);
    if (envelope.kind === "local-kek") {
      return this.#parts.localKeks.open(keyId, wrappedLocalKek(annotations), envelope.body);
    }
    if (Object.keys(annotations).length > 0)
      throw invalid("this ciphertext carries no annotations; they belong to another one");
    const name = cacheName(keyId, ciphertext, annotations);
    const aad = associatedData(envelope.mechanism.id, keyId);
    return this.#parts.cache.get(
      name,
      generation.record.keyId,
      (caller) => this.#decryptDirect(envelope.mechanism, keyId, envelope.body, aad, caller),
      context,
    );
  }

  async #encryptUnder(keyId: string, plaintext: Uint8Array, context: RequestContext): Promise<EncryptAnswer> {
    if (this.#parts.mode === "direct") return this.#encryptDirect(keyId, plaintext, context);
    return { keyId, ...(await this.#parts.localKeks.seal(keyId, plaintext)) };
  }

  async #encryptDirect(
    keyId: string,
    plaintext: Uint8Array,
    context: RequestContext,
  ): Promise<EncryptAnswer> {
    const mechanism = this.#mechanismOf(keyId);
    const aad = associatedData(mechanism.id, keyId);
    const body = await this.#guard(
      this.#parts.hsm.encrypt({ keyId, mechanism: mechanism.id, aad, data: plaintext }, context),
    );
    return { ciphertext: encodeEnvelope(mechanism.id, body), keyId, annotations: {} };
  }

  #decryptDirect(
    mechanism: Mechanism,
    keyId: string,
    body: Uint8Array,
    aad: Buffer,
    caller: { readonly cancelled: boolean },
  ): Promise<Buffer> {
    return this.#guard(this.#parts.hsm.decrypt({ keyId, mechanism: mechanism.id, aad, data: body }, caller));
  }

  #mechanismOf(keyId: string): Mechanism {
    const { mechanism, failure } = this.#parts.prover.proofOf(keyId);
    if (mechanism !== undefined) return mechanism;
    throw failure ?? new KmsError("HSM_UNAVAILABLE", `KEK ${keyId} has not passed its self-test yet`);
  }

  /** Passes a result on; a failure that says the HSM is in trouble, or a KEK missing, is looked into at once. */
  async #guard(call: Promise<Buffer>): Promise<Buffer> {
    try {
      return await call;
    } catch (error) {
      const { code } = KmsError.from(error);
      if (
        code === "HSM_UNAVAILABLE" ||
        code === "DEADLINE" ||
        code === "KEY_MISSING" ||
        code === "SESSION_LOST"
      ) {
        this.#parts.onHsmTrouble();
      }
      throw error;
    }
  }

  /** Local KEKs are wrapped as a DEK seed is encrypted, under associated data of their own. */
  static localKekWrapper(hsm: Hsm, prover: Prover): LocalKekWrapper {
    const aadOf = (mechanism: number, keyId: string): Buffer =>
      Buffer.concat([associatedData(mechanism, keyId), LOCAL_KEK_PURPOSE]);
    return {
      wrap: async (keyId, localKek) => {
        const { mechanism, failure } = prover.proofOf(keyId);
        if (mechanism === undefined)
          throw failure ?? new KmsError("HSM_UNAVAILABLE", `KEK ${keyId} has not passed its self-test yet`);
        const aad = aadOf(mechanism.id, keyId);
        const body = await hsm.encrypt(
          { keyId, mechanism: mechanism.id, aad, data: localKek },
          PATIENT_CALLER,
        );
        return encodeEnvelope(mechanism.id, body);
      },
      unwrap: async (keyId, wrapped) => {
        const envelope = parseEnvelope(wrapped, LOCAL_KEK_BYTES);
        if (envelope.kind !== "direct") throw invalid("the annotation holds no wrapped local KEK");
        const aad = aadOf(envelope.mechanism.id, keyId);
        return hsm.decrypt(
          { keyId, mechanism: envelope.mechanism.id, aad, data: envelope.body },
          PATIENT_CALLER,
        );
      },
    };
  }
}

function checkLengths({ ciphertext, keyId, annotations }: DecryptQuestion): void {
  if (ciphertext.length < 1 || ciphertext.length > MAX_CIPHERTEXT_BYTES) {
    throw invalid(
      `a ciphertext has 1 to ${String(MAX_CIPHERTEXT_BYTES)} bytes, not ${String(ciphertext.length)}`,
    );
  }
  const keyIdBytes = Buffer.byteLength(keyId);
  if (keyIdBytes < 1 || keyIdBytes > MAX_KEY_ID_BYTES) {
    throw invalid(`a key_id has 1 to ${String(MAX_KEY_ID_BYTES)} bytes, not ${String(keyIdBytes)}`);
  }
  let bytes = 0;
  for (const [name, value] of Object.entries(annotations)) bytes += Buffer.byteLength(name) + value.length;
  if (bytes > MAX_ANNOTATION_BYTES)
    throw invalid(`annotations have at most ${String(MAX_ANNOTATION_BYTES)} bytes, not ${String(bytes)}`);
}

function wrappedLocalKek(annotations: Annotations): Uint8Array {
  const wrapped = annotations[LOCAL_KEK_ANNOTATION];
  if (wrapped !== undefined && Object.keys(annotations).length === 1) return wrapped;
  throw invalid(`a ciphertext under a local KEK carries the annotation ${LOCAL_KEK_ANNOTATION} and no other`);
}

function invalid(message: string): KmsError {
  return new KmsError("INPUT_INVALID", message);
}

/** The API server shows healthz in one line of its own health error. */
function oneLine(text: string): string {
  const flat = text.replace(/\s+/g, " ");
  return flat.length > 300 ? `${flat.slice(0, 297)}...` : flat;
}

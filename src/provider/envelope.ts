// The envelope: what kube-apiserver stores as the encrypted DEK source. Format version 1:
//
//   u8 format version = 1 | u8 mechanism | body
//
// The mechanism is a row of the mechanism table, which lays out the body, or LOCAL_KEK (see local-kek.ts).
// Associated data = format version, mechanism, key_id. Frozen by test/vectors/.
import { KmsError } from "../errors.js";
import { mechanismById, type Mechanism } from "../hsm/mechanisms.js";
import { MAX_CIPHERTEXT_BYTES, MAX_PLAINTEXT_BYTES } from "./kms.js";

export const FORMAT_VERSION = 1;
/** The mechanism byte of an envelope sealed under a local KEK: IV (12) | ciphertext | tag (16). */
export const LOCAL_KEK = 32;
const LOCAL_KEK_OVERHEAD = { min: 28, max: 28 };
const HEADER_BYTES = 2;

export interface DirectEnvelope {
  readonly kind: "direct";
  readonly mechanism: Mechanism;
  readonly body: Uint8Array;
}

export type Envelope = DirectEnvelope | { readonly kind: "local-kek"; readonly body: Uint8Array };

export function encodeEnvelope(mechanism: number, body: Uint8Array): Buffer {
  const envelope = Buffer.allocUnsafe(HEADER_BYTES + body.length);
  envelope[0] = FORMAT_VERSION;
  envelope[1] = mechanism;
  envelope.set(body, HEADER_BYTES);
  return envelope;
}

/**
 * Reads an envelope; its body is a view. Nothing in it is authenticated yet.
 * @param maxPlaintext longest plaintext that it may hold, in bytes
 * @throws KmsError INPUT_INVALID when version, mechanism or length cannot be one of ours
 */
export function parseEnvelope(envelope: Uint8Array, maxPlaintext = MAX_PLAINTEXT_BYTES): Envelope {
  if (envelope.length < HEADER_BYTES || envelope.length > MAX_CIPHERTEXT_BYTES) {
    throw malformed(
      `a ciphertext has 2 to ${String(MAX_CIPHERTEXT_BYTES)} bytes, not ${String(envelope.length)}`,
    );
  }
  const [version, id] = envelope;
  if (version !== FORMAT_VERSION) {
    throw malformed(
      `ciphertext format version ${String(version)} is not known to this release; was it made by this plugin?`,
    );
  }
  const body = envelope.subarray(HEADER_BYTES);
  const mechanism = mechanismById(id ?? 0);
  if (mechanism === undefined && id !== LOCAL_KEK)
    throw malformed(`ciphertext mechanism ${String(id)} is not known`);
  const { min, max } = mechanism?.overhead ?? LOCAL_KEK_OVERHEAD;
  if (body.length < min + 1 || body.length > max + maxPlaintext) {
    throw malformed(
      `a ciphertext of ${String(envelope.length)} bytes cannot hold a plaintext of 1 to ${String(maxPlaintext)}`,
    );
  }
  return mechanism === undefined ? { kind: "local-kek", body } : { kind: "direct", mechanism, body };
}

/** Associated data of an envelope: format version, mechanism, key_id. */
export function associatedData(mechanism: number, keyId: string): Buffer {
  return Buffer.concat([Buffer.of(FORMAT_VERSION, mechanism), Buffer.from(keyId)]);
}

function malformed(message: string): KmsError {
  return new KmsError("INPUT_INVALID", message);
}

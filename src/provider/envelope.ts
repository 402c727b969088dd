// The envelope: what kube-apiserver stores as the encrypted DEK source.
//
//   u8 format version | u8 mechanism | body
//
// The mechanism is a row of the mechanism table, which defines the body, or LOCAL_KEK (see local-kek.ts). In version 2
// the token encrypts an 8-byte digest in front of the plaintext, so that an altered plaintext is detected. Version 1
// has no digest; local KEKs, which seal in this process, use it.
//
// Associated data = format version, mechanism, key_id. Frozen by test/vectors/.
import { KmsError } from "../errors.js";
import { mechanismById, type Mechanism } from "../hsm/mechanisms.js";
import { MAX_CIPHERTEXT_BYTES, MAX_PLAINTEXT_BYTES } from "./kms.js";

/** The body holds the plaintext alone. */
export const PLAIN_FORMAT = 1;
/** The body holds a digest in front of the plaintext. */
export const CHECKED_FORMAT = 2;
/** The first byte of an envelope. */
export type FormatVersion = typeof PLAIN_FORMAT | typeof CHECKED_FORMAT;
const DIGEST_BYTES = 8;
/** The mechanism byte of an envelope sealed under a local KEK: IV (12) | ciphertext | tag (16). */
export const LOCAL_KEK = 32;
const LOCAL_KEK_OVERHEAD = { min: 28, max: 28 };
const HEADER_BYTES = 2;

/** An envelope whose body was made under the KEK itself. */
export interface DirectEnvelope {
  readonly kind: "direct";
  readonly version: FormatVersion;
  readonly mechanism: Mechanism;
  readonly body: Uint8Array;
}

/** A parsed envelope. */
export type Envelope = DirectEnvelope | { readonly kind: "local-kek"; readonly body: Uint8Array };

/** Returns an envelope around a mechanism's body. */
export function encodeEnvelope(version: FormatVersion, mechanism: number, body: Uint8Array): Buffer {
  const envelope = Buffer.allocUnsafe(HEADER_BYTES + body.length);
  envelope[0] = version;
  envelope[1] = mechanism;
  envelope.set(body, HEADER_BYTES);
  return envelope;
}

/**
 * Parses an envelope; its body is a view, and nothing in it is authenticated yet.
 * @param maxPlaintext longest plaintext that it may hold, in bytes
 * @throws KmsError INPUT_INVALID if the version, mechanism or length cannot come from this plugin
 */
export function parseEnvelope(envelope: Uint8Array, maxPlaintext = MAX_PLAINTEXT_BYTES): Envelope {
  if (envelope.length < HEADER_BYTES || envelope.length > MAX_CIPHERTEXT_BYTES) {
    throw malformed(`a ciphertext has 2 to ${MAX_CIPHERTEXT_BYTES} bytes, not ${envelope.length}`);
  }
  const [version, id] = envelope;
  if (version !== PLAIN_FORMAT && version !== CHECKED_FORMAT) {
    throw malformed(
      `ciphertext format version ${String(version)} is not known to this release; was it made by this plugin?`,
    );
  }
  const body = envelope.subarray(HEADER_BYTES);
  const mechanism = mechanismById(id ?? 0);
  if (mechanism === undefined && (id !== LOCAL_KEK || version !== PLAIN_FORMAT)) {
    throw malformed(`ciphertext mechanism ${String(id)} is not known in format version ${version}`);
  }
  const { min, max } = mechanism?.overhead ?? LOCAL_KEK_OVERHEAD;
  const digest = version === CHECKED_FORMAT ? DIGEST_BYTES : 0;
  if (body.length < min + digest + 1 || body.length > max + digest + maxPlaintext) {
    throw malformed(
      `a ciphertext of ${envelope.length} bytes cannot hold a plaintext of 1 to ${maxPlaintext}`,
    );
  }
  return mechanism === undefined ? { kind: "local-kek", body } : { kind: "direct", version, mechanism, body };
}

/** Returns the associated data of an envelope: format version, mechanism, key_id. */
export function associatedData(version: FormatVersion, mechanism: number, keyId: string): Buffer {
  return Buffer.concat([Buffer.of(version, mechanism), Buffer.from(keyId)]);
}

function malformed(message: string): KmsError {
  return new KmsError("INPUT_INVALID", message);
}

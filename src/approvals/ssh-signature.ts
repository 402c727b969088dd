// Verifies signatures in OpenSSH's format (PROTOCOL.sshsig; for security keys PROTOCOL.u2f). Stricter than ssh-keygen -Y
// verify: one encoding of everything, an empty reserved field, no SHA-1, and for security keys the flags that their
// holder was present and, unless the policy says otherwise, verified by PIN or fingerprint.
import { createHash, verify } from "node:crypto";
import { refused } from "./refused.js";
import { canonicalBase64, readKey, type KeyType, type SshKey } from "./ssh-key.js";
import { WireReader, wireString } from "./wire-reader.js";

/** The namespace of every signature of this program: no signature for another purpose can be used here. */
export const NAMESPACE = "approval@kms-pkcs11";

/** Longest armoured signature in characters: RSA with 8192 bits needs less than 3,500. */
export const MAX_SIGNATURE = 6_144;

const MAGIC = Buffer.from("SSHSIG");
const VERSION = 1;
const HASHES = ["sha512", "sha256"] as const;
const ARMOUR =
  /^-----BEGIN SSH SIGNATURE-----\n((?:[A-Za-z0-9+/]{70}\n|[A-Za-z0-9+/]{76}\n)*[A-Za-z0-9+/]{1,76}={0,2}\n)-----END SSH SIGNATURE-----\n$/;

/** What a security key asserts with a signature. */
export interface Touch {
  /** Whether somebody touched the key. */
  readonly isPresent: boolean;
  /** Whether the key verified its holder by PIN or fingerprint. */
  readonly isVerified: boolean;
  readonly counter: number;
}

/** A signature whose cryptography is valid. */
export interface VerifiedSignature {
  readonly key: SshKey;
  /** Undefined for keys that are not security keys. */
  readonly touch?: Touch;
}

interface Parsed {
  readonly key: SshKey;
  readonly reserved: Buffer;
  readonly hash: (typeof HASHES)[number];
  readonly signature: Buffer;
}

/**
 * Verifies an armoured signature over a message in NAMESPACE.
 * @throws KmsError NOT_APPROVED that says what is wrong
 */
export function verifySignature(armoured: string, message: Uint8Array): VerifiedSignature {
  const { key, reserved, hash, signature } = parse(unarmour(armoured));
  const digest = createHash(hash).update(message).digest();
  const signed = Buffer.concat([
    MAGIC,
    ...[NAMESPACE, reserved, hash, digest].map((part) => wireString(part)),
  ]);
  const reader = new WireReader(signature);
  const algorithm = reader.text();
  const value = reader.string();
  const touch = key.application === undefined ? undefined : readTouch(reader);
  reader.end();
  const isValid = CHECKS[key.type]({ key, algorithm, value, signed, touch });
  if (!isValid) throw refused("it does not match what it should sign");
  if (touch !== undefined && !touch.isPresent) throw refused("nobody touched the security key");
  return { key, ...(touch !== undefined && { touch }) };
}

function unarmour(text: string): Buffer {
  if (text.length > MAX_SIGNATURE) throw refused("it is too long");
  const [, body] = ARMOUR.exec(text) ?? [];
  if (body === undefined) throw refused("it is not an armoured signature of SSH");
  return canonicalBase64(body.replaceAll("\n", ""));
}

function parse(bytes: Buffer): Parsed {
  const reader = new WireReader(bytes);
  if (!reader.bytes(MAGIC.length).equals(MAGIC)) throw refused("it is not a signature of SSH");
  if (reader.uint32() !== VERSION) throw refused("it is of an unknown version");
  const key = readKey(reader.string());
  const namespace = reader.text();
  if (namespace !== NAMESPACE) {
    throw refused(
      `it was made for "${namespace}", not for ${NAMESPACE} (ssh-keygen -Y sign -n ${NAMESPACE})`,
    );
  }
  const reserved = reader.string();
  if (reserved.length > 0) throw refused("its reserved field is not empty");
  const name = reader.text();
  const hash = HASHES.find((one) => one === name);
  if (hash === undefined) throw refused(`its hash "${name}" is not sha512 or sha256`);
  const signature = reader.string();
  reader.end();
  return { key, reserved, hash, signature };
}

const USER_PRESENT = 0x01;
const USER_VERIFIED = 0x04;

function readTouch(reader: WireReader): Touch & { readonly bytes: Buffer } {
  const bytes = reader.bytes(5);
  const flags = bytes.readUInt8();
  // Other flags announce data that is not part of this format.
  if ((flags & ~(USER_PRESENT | USER_VERIFIED)) !== 0) throw refused("the security key set unknown flags");
  return {
    isPresent: (flags & USER_PRESENT) !== 0,
    isVerified: (flags & USER_VERIFIED) !== 0,
    counter: bytes.readUInt32BE(1),
    bytes,
  };
}

interface Claim {
  readonly key: SshKey;
  readonly algorithm: string;
  readonly value: Buffer;
  readonly signed: Buffer;
  readonly touch: { readonly bytes: Buffer } | undefined;
}

const RSA = "rsa-sha2-512";

const CHECKS: Record<KeyType, (claim: Claim) => boolean> = {
  "ssh-ed25519": ({ key, algorithm, value, signed }) => isEd25519(key, algorithm, value, signed),
  "ecdsa-sha2-nistp256": ({ key, algorithm, value, signed }) => isEcdsa(key, algorithm, value, signed),
  "ssh-rsa": ({ key, algorithm, value, signed }) => {
    if (algorithm !== RSA) {
      throw refused(`RSA signatures of type "${algorithm}" are not accepted, only ${RSA}`);
    }
    return value.length === key.modulusBytes && verify("sha512", signed, key.key, value);
  },
  "sk-ssh-ed25519@openssh.com": (claim) => isEd25519(claim.key, claim.algorithm, claim.value, touched(claim)),
  "sk-ecdsa-sha2-nistp256@openssh.com": (claim) =>
    isEcdsa(claim.key, claim.algorithm, claim.value, touched(claim)),
};

/** Returns what a security key signs: the digests of its application and of the message, with flags and counter. */
function touched({ key, signed, touch }: Claim): Buffer {
  const sha256 = (bytes: Uint8Array | string): Buffer => createHash("sha256").update(bytes).digest();
  return Buffer.concat([sha256(key.application ?? ""), touch?.bytes ?? Buffer.alloc(0), sha256(signed)]);
}

function isEd25519({ key, type }: SshKey, algorithm: string, value: Buffer, signed: Buffer): boolean {
  requireAlgorithm(algorithm, type);
  return value.length === 64 && verify(null, signed, key, value);
}

function isEcdsa({ key, type }: SshKey, algorithm: string, value: Buffer, signed: Buffer): boolean {
  requireAlgorithm(algorithm, type);
  const reader = new WireReader(value);
  const numbers = [reader.positive(), reader.positive()];
  reader.end();
  if (numbers.some(({ length }) => length > 32)) throw refused("a number of the ecdsa signature is too long");
  const padded = numbers.map((number) => Buffer.concat([Buffer.alloc(32 - number.length), number]));
  return verify("sha256", signed, { key, dsaEncoding: "ieee-p1363" }, Buffer.concat(padded));
}

function requireAlgorithm(algorithm: string, type: KeyType): void {
  if (algorithm !== type) throw refused(`signatures of type "${algorithm}" do not belong to this key`);
}

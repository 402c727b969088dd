// The mechanism table: one row for each method of encrypting under a KEK. A row's `id` is the byte stored in every
// ciphertext, so a row is never renumbered and never removed. Only the token host knows the layout of bodies; this
// table contains just enough to refuse an impossible length before the HSM is asked. The IV modes of GCM differ in who
// makes the IV (PKCS#11 v3.0 section 6.13.3; vendors' documents).

/**
 * The choices of an operator, in order of preference. All IV modes of GCM are one choice, and so are both digests of
 * OAEP, since the token determines them.
 */
export const MECHANISM_CHOICES = ["aes-gcm", "hmac-kdf", "aes-kwp", "aes-cbc-hmac", "rsa-oaep"] as const;
/** A mechanism as an operator chooses it. */
export type MechanismChoice = (typeof MECHANISM_CHOICES)[number];

/** The name of a row; some choices have several rows. */
export type MechanismName =
  MechanismChoice | "aes-gcm-iv-written" | "aes-gcm-iv-appended" | "aes-gcm-iv-prepended" | "rsa-oaep-sha1";

/**
 * The key objects that make up a generation of the KEK; "rsa" is two key pairs, one that decrypts and one that signs.
 */
export const KEK_KINDS = ["aes", "hmac", "aes+hmac", "rsa"] as const;
/** The kind of a KEK. */
export type KekKind = (typeof KEK_KINDS)[number];

/** A row of the mechanism table. */
export interface Mechanism {
  readonly name: MechanismName;
  readonly choice: MechanismChoice;
  /** The second byte of every envelope that the mechanism makes. */
  readonly id: number;
  readonly kinds: readonly KekKind[];
  /** Number of bytes by which the body is longer than the plaintext. */
  readonly overhead: { readonly min: number; readonly max: number };
}

const AES_KINDS = ["aes", "aes+hmac"] as const;
/** A length byte for the IV, an IV of 12 bytes (some tokens make 16), the 16-byte tag. */
const GCM_OVERHEAD = { min: 1 + 12 + 16, max: 1 + 16 + 16 };
/**
 * A ciphertext and a signature, each as long as its modulus: at least 256 bytes, together at most 1,021. The plaintext
 * of OAEP with SHA-1 is at least 42 bytes shorter than the modulus.
 */
const RSA_OVERHEAD = { min: 42 + 256, max: 1021 - 1 };

/** The rows of the mechanism table. */
export const MECHANISMS: readonly Mechanism[] = [
  { name: "aes-gcm", choice: "aes-gcm", id: 1, kinds: AES_KINDS, overhead: { min: 29, max: 29 } },
  { name: "aes-gcm-iv-written", choice: "aes-gcm", id: 2, kinds: AES_KINDS, overhead: GCM_OVERHEAD },
  { name: "aes-gcm-iv-appended", choice: "aes-gcm", id: 3, kinds: AES_KINDS, overhead: GCM_OVERHEAD },
  { name: "aes-gcm-iv-prepended", choice: "aes-gcm", id: 4, kinds: AES_KINDS, overhead: GCM_OVERHEAD },
  // 32-byte nonce, 12-byte IV, 16-byte tag.
  {
    name: "hmac-kdf",
    choice: "hmac-kdf",
    id: 5,
    kinds: ["hmac", "aes+hmac"],
    overhead: { min: 60, max: 60 },
  },
  // 32-byte digest of the associated data, 2-byte length, 8 bytes of RFC 5649, at most 7 of padding.
  { name: "aes-kwp", choice: "aes-kwp", id: 6, kinds: AES_KINDS, overhead: { min: 42, max: 49 } },
  // 16-byte IV, 1 to 16 bytes of padding, 32-byte HMAC-SHA-256.
  {
    name: "aes-cbc-hmac",
    choice: "aes-cbc-hmac",
    id: 7,
    kinds: ["aes+hmac"],
    overhead: { min: 49, max: 64 },
  },
  { name: "rsa-oaep", choice: "rsa-oaep", id: 8, kinds: ["rsa"], overhead: RSA_OVERHEAD },
  { name: "rsa-oaep-sha1", choice: "rsa-oaep", id: 9, kinds: ["rsa"], overhead: RSA_OVERHEAD },
];

const BY_ID = new Map(MECHANISMS.map((row) => [row.id, row]));
const BY_NAME = new Map(MECHANISMS.map((row) => [row.name, row]));

/** Returns the row of an id; undefined if there is none. */
export function mechanismById(id: number): Mechanism | undefined {
  return BY_ID.get(id);
}

/** Returns the row of a name. */
export function mechanismByName(name: MechanismName): Mechanism {
  const row = BY_NAME.get(name);
  if (row === undefined) throw new TypeError(`no mechanism is called ${name}`);
  return row;
}

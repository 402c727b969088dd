// The mechanism table: everything about one way of encrypting under a KEK in one row. A row's `id` is the
// byte stored in every ciphertext, so a row is never renumbered and never removed. Bodies are laid out by
// the token host alone; here stands only what is needed to refuse an impossible length before the HSM is
// asked. IV modes of GCM differ by who makes the IV (PKCS#11 v3.0 section 6.13.3; vendors' documents).

export type MechanismName =
  | "aes-gcm"
  | "aes-gcm-iv-written"
  | "aes-gcm-iv-appended"
  | "aes-gcm-iv-prepended"
  | "hmac-kdf"
  | "aes-kwp"
  | "aes-cbc-hmac";

/** What an operator may ask for; the IV modes of GCM are one choice, found by trial. */
export const MECHANISM_CHOICES = ["aes-gcm", "hmac-kdf", "aes-kwp", "aes-cbc-hmac"] as const;
export type MechanismChoice = (typeof MECHANISM_CHOICES)[number];

/** The objects a generation of the KEK is made of. */
export type KekKind = "aes" | "hmac" | "aes+hmac";

export interface Mechanism {
  readonly name: MechanismName;
  readonly choice: MechanismChoice;
  /** The second byte of every envelope made with it. */
  readonly id: number;
  readonly kinds: readonly KekKind[];
  /** Least and most bytes that the body is longer than the plaintext. */
  readonly overhead: { readonly min: number; readonly max: number };
}

const AES_KINDS = ["aes", "aes+hmac"] as const;
/** A length byte for the IV, the IV of 12 (or, made by some tokens, 16) bytes, the 16-byte tag. */
const GCM_OVERHEAD = { min: 1 + 12 + 16, max: 1 + 16 + 16 };

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
];

const BY_ID = new Map(MECHANISMS.map((row) => [row.id, row]));
const BY_NAME = new Map(MECHANISMS.map((row) => [row.name, row]));

export function mechanismById(id: number): Mechanism | undefined {
  return BY_ID.get(id);
}

export function mechanismByName(name: MechanismName): Mechanism {
  const row = BY_NAME.get(name);
  if (row === undefined) throw new TypeError(`no mechanism is called ${name}`);
  return row;
}

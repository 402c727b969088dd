// Makes the two RSA key pairs of a generation inside the HSM: one whose private key only decrypts, one whose private
// key only signs. PKCS#11 v2.40 section 5.13 (C_GenerateKeyPair), section 2.1.4 of the mechanisms.
import pkcs11js, { type Attribute, type Handle } from "pkcs11js";
import { TokenFault } from "./ckr.js";
import { KWP_NUMBERS } from "./mechanisms/kwp-variant.js";
import { isRefusal } from "./refusal.js";
import { signingKeyId } from "./rsa-naming.js";
import { listedMechanisms, type TokenSession } from "./session.js";

/** In order of preference: as strong as AES-128 (NIST SP 800-57 part 1, table 2), and what every token makes. */
const MODULUS_BITS = [3072, 2048] as const;
const PUBLIC_EXPONENT = Buffer.of(1, 0, 1);

/** The PKCS#11 mechanisms that the other rows of the mechanism table use. */
const SYMMETRIC: readonly number[] = [
  pkcs11js.CKM_AES_GCM,
  pkcs11js.CKM_AES_CBC,
  ...KWP_NUMBERS,
  pkcs11js.CKM_SHA256_HMAC,
];

interface WantedPairs {
  readonly label: string;
  /** CKA_ID of the pair that decrypts. */
  readonly id: Buffer;
}

type Role = "decrypt" | "sign";

/** The attributes for both keys of a pair. */
interface PairTemplate {
  readonly publicKey: readonly Attribute[];
  readonly privateKey: readonly Attribute[];
}

/**
 * Returns whether the token lists AES or HMAC mechanisms, or returns no list. On such a token, an RSA KEK is made only
 * on request: its secret keys may come from the vendor's tool, or generating them may have failed temporarily.
 */
export function listsSymmetric(session: TokenSession): boolean {
  const listed = listedMechanisms(session);
  return listed === undefined || SYMMETRIC.some((mechanism) => listed.has(mechanism));
}

/** Returns whether the token lists what an RSA KEK decrypts with, or returns no list. */
export function listsOaep(session: TokenSession): boolean {
  return listedMechanisms(session)?.has(pkcs11js.CKM_RSA_PKCS_OAEP) ?? true;
}

/**
 * Makes both pairs. @param made receives the handle of every object as soon as it exists, private keys first
 * @throws TokenFault when the token refuses or fails
 */
export function makeRsaPairs(session: TokenSession, { label, id }: WantedPairs, made: Handle[]): void {
  for (const role of ["decrypt", "sign"] as const) {
    const pair = makePair(session, role, { label, id: role === "decrypt" ? id : signingKeyId(id) });
    made.push(pair.privateKey, pair.publicKey);
  }
}

function makePair(session: TokenSession, role: Role, wanted: WantedPairs): pkcs11js.KeyPair {
  let refusal: TokenFault | undefined;
  for (const bits of MODULUS_BITS) {
    for (const { publicKey, privateKey } of templates(role, bits, wanted)) {
      const made = session.attempt("making a key pair (C_GenerateKeyPair)", (handle) =>
        session.lib.C_GenerateKeyPair(
          handle,
          { mechanism: pkcs11js.CKM_RSA_PKCS_KEY_PAIR_GEN },
          [...publicKey],
          [...privateKey],
        ),
      );
      if (made.ok) return made.value;
      // Some tokens refuse a length with a general error.
      if (!isRefusal(made.fault)) throw made.fault;
      refusal ??= made.fault;
    }
  }
  throw refusal ?? new TokenFault("the token makes no RSA keys", { fault: "setup", code: "TOKEN_REFUSED" });
}

/** The full template first, then without attributes that some tokens refuse; each of them also without a CKA_ID. */
function templates(role: Role, bits: number, wanted: WantedPairs): PairTemplate[] {
  const needed = neededAttributes(role, bits, wanted.label);
  const id = { type: pkcs11js.CKA_ID, value: wanted.id };
  const unused = refusedUses(role);
  const recover = {
    publicKey: [no(pkcs11js.CKA_VERIFY_RECOVER)],
    privateKey: [no(pkcs11js.CKA_SIGN_RECOVER), no(pkcs11js.CKA_DERIVE)],
  };
  const fixed = { publicKey: [], privateKey: [no(pkcs11js.CKA_MODIFIABLE)] };
  const own = { publicKey: [id], privateKey: [id] };
  const uses = [[unused, recover, fixed], [unused, recover], [unused], []];
  return [own, undefined].flatMap((named) =>
    uses.map((parts) => joined([needed, ...(named === undefined ? [] : [named]), ...parts])),
  );
}

function joined(parts: readonly PairTemplate[]): PairTemplate {
  return {
    publicKey: parts.flatMap(({ publicKey }) => publicKey),
    privateKey: parts.flatMap(({ privateKey }) => privateKey),
  };
}

function neededAttributes(role: Role, bits: number, label: string): PairTemplate {
  const common = [
    { type: pkcs11js.CKA_KEY_TYPE, value: pkcs11js.CKK_RSA },
    { type: pkcs11js.CKA_TOKEN, value: true },
    { type: pkcs11js.CKA_LABEL, value: label },
  ];
  return {
    publicKey: [
      { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_PUBLIC_KEY },
      ...common,
      { type: pkcs11js.CKA_MODULUS_BITS, value: bits },
      { type: pkcs11js.CKA_PUBLIC_EXPONENT, value: PUBLIC_EXPONENT },
      yes(role === "decrypt" ? pkcs11js.CKA_ENCRYPT : pkcs11js.CKA_VERIFY),
    ],
    privateKey: [
      { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_PRIVATE_KEY },
      ...common,
      yes(pkcs11js.CKA_PRIVATE),
      yes(pkcs11js.CKA_SENSITIVE),
      no(pkcs11js.CKA_EXTRACTABLE),
      yes(role === "decrypt" ? pkcs11js.CKA_DECRYPT : pkcs11js.CKA_SIGN),
    ],
  };
}

function refusedUses(role: Role): PairTemplate {
  return {
    publicKey: [no(role === "decrypt" ? pkcs11js.CKA_VERIFY : pkcs11js.CKA_ENCRYPT), no(pkcs11js.CKA_WRAP)],
    privateKey: [no(role === "decrypt" ? pkcs11js.CKA_SIGN : pkcs11js.CKA_DECRYPT), no(pkcs11js.CKA_UNWRAP)],
  };
}

function yes(type: number): Attribute {
  return { type, value: true };
}

function no(type: number): Attribute {
  return { type, value: false };
}

// RSA-OAEP under one key pair, signed with RSA-PSS under another (RFC 8017): anybody can encrypt with a public key, so
// only the signature shows that a ciphertext was made with the HSM. It covers the associated data (format version,
// mechanism, key_id) and the ciphertext, and is verified in this process before the token is asked to decrypt. Body:
// OAEP ciphertext | PSS signature, each as long as its modulus.
import { AlteredResult, TokenFault } from "../ckr.js";
import type { Kek, RsaKey } from "../kek.js";
import type { TokenSession } from "../session.js";
import { framed } from "./hmac-sign.js";
import type { Performer } from "./performer.js";
import { oaepCapacity, oaepDecrypt, oaepEncrypt, pssSign, pssVerify, type OaepDigest } from "./rsa-calls.js";

/** Leaves 2 bytes for the envelope's header: kube-apiserver stores at most 1,023. */
const MAX_BODY_BYTES = 1021;

/** In order of preference. */
export const OAEP_MECHANISMS = ["rsa-oaep", "rsa-oaep-sha1"] as const;
/** RSA-OAEP with one of its two digests. */
export type OaepMechanism = (typeof OAEP_MECHANISMS)[number];

const DIGESTS: Readonly<Record<OaepMechanism, OaepDigest>> = {
  "rsa-oaep": "sha256",
  "rsa-oaep-sha1": "sha1",
};

/** Returns the performer of RSA-OAEP with one digest. */
export function rsaOaep(mechanism: OaepMechanism): Performer {
  return {
    encrypt: (session, kek, aad, plaintext) => encrypt(mechanism, session, kek, aad, plaintext),
    decrypt: (session, kek, aad, body) => decrypt(mechanism, session, kek, aad, body),
  };
}

function keysOf({ decrypts, signs }: Kek): { readonly decrypts: RsaKey; readonly signs: RsaKey } {
  if (decrypts !== undefined && signs !== undefined) return { decrypts, signs };
  throw new TokenFault("this KEK does not have one RSA key pair that decrypts and one that signs", {
    fault: "setup",
    code: "MECHANISM_UNSUPPORTED",
  });
}

/** Returns what is signed. The lengths keep two different pairs of associated data and ciphertext apart. */
function signedText(mechanism: OaepMechanism, aad: Uint8Array, ciphertext: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`kms-pkcs11 ${mechanism} v1`), framed(aad), framed(ciphertext)]);
}

function encrypt(
  mechanism: OaepMechanism,
  session: TokenSession,
  kek: Kek,
  aad: Uint8Array,
  plaintext: Uint8Array,
): Buffer {
  const { decrypts, signs } = keysOf(kek);
  if (decrypts.modulus.length + signs.modulus.length > MAX_BODY_BYTES) {
    const text = `a ciphertext under RSA keys of ${bits(decrypts)} and ${bits(signs)} bits has more than 1,023 bytes; use 3072 bits`;
    throw new TokenFault(text, { fault: "setup", code: "KEY_UNSUITABLE" });
  }
  const digest = DIGESTS[mechanism];
  if (plaintext.length > oaepCapacity(digest, decrypts)) {
    const text = `the plaintext is too long: ${mechanism} cannot encrypt it under a key of ${bits(decrypts)} bits`;
    throw new TokenFault(text, { fault: "input", code: "INPUT_INVALID" });
  }
  const ciphertext = oaepEncrypt(digest, decrypts, plaintext);
  const signature = pssSign(session, signs, signedText(mechanism, aad, ciphertext), kek.discovered);
  if (signature.length === signs.modulus.length) return Buffer.concat([ciphertext, signature]);
  throw new AlteredResult(`the token's RSA-PSS signature has ${signature.length} bytes`);
}

function decrypt(
  mechanism: OaepMechanism,
  session: TokenSession,
  kek: Kek,
  aad: Uint8Array,
  body: Uint8Array,
): Buffer {
  const { decrypts, signs } = keysOf(kek);
  const at = decrypts.modulus.length;
  if (body.length !== at + signs.modulus.length) {
    throw new TokenFault("the ciphertext is not laid out as rsa-oaep makes it", {
      fault: "input",
      code: "INPUT_INVALID",
    });
  }
  const ciphertext = body.subarray(0, at);
  if (!pssVerify(signs, signedText(mechanism, aad, ciphertext), body.subarray(at))) {
    throw new TokenFault("the ciphertext was not signed by this KEK", {
      fault: "input",
      code: "NOT_AUTHENTIC",
    });
  }
  return oaepDecrypt(session, DIGESTS[mechanism], decrypts, ciphertext);
}

function bits({ modulus }: RsaKey): number {
  return 8 * modulus.length;
}

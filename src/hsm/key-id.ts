// key_id: the public name of a KEK value. It joins the CKA_ID (or a digest of a long one) and a fingerprint
// that the HSM computed over a fixed text, so that it survives restarts, slot renumbering and cloning, and
// differs for two keys that share label and CKA_ID. It never contains the token's serial: clones differ in it.
//
//   key_id      = <cka-id> "." <method> [ <fingerprint> ]
//   cka-id      = hex of CKA_ID | "h" hex of SHA-256(CKA_ID), first 16 bytes, if longer | "0" if empty
//   fingerprint = hex of SHA-256(domain text, method, value from the HSM), first 16 bytes
import { createHash } from "node:crypto";

/**
 * How the HSM computed the fingerprint: `c` AES of one fixed block, `g` AES-GCM under the reserved zero IV,
 * `s` HMAC-SHA-256 of a fixed text, `p` a pair of an AES and an HMAC key, `n` none could be had.
 */
export type FingerprintMethod = "c" | "g" | "s" | "p" | "n";

const ID_BYTES_IN_CLEAR = 16;
const DIGEST_BYTES = 16;
const DOMAIN = "kms-pkcs11 fingerprint v1";

/** Returns the key_id: printable ASCII, 3 to 66 characters. Frozen: stored data carries it. */
export function makeKeyId(ckaId: Uint8Array, method: FingerprintMethod, value: Uint8Array): string {
  const fingerprint =
    method === "n"
      ? ""
      : createHash("sha256")
          .update(DOMAIN)
          .update(method)
          .update(value)
          .digest()
          .toString("hex", 0, DIGEST_BYTES);
  return `${nameCkaId(ckaId)}.${method}${fingerprint}`;
}

function nameCkaId(ckaId: Uint8Array): string {
  if (ckaId.length === 0) return "0";
  if (ckaId.length <= ID_BYTES_IN_CLEAR) return Buffer.from(ckaId).toString("hex");
  return "h" + createHash("sha256").update(ckaId).digest().toString("hex", 0, DIGEST_BYTES);
}

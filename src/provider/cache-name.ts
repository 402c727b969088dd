// The name of a seed in the unwrap cache and in the working set. It depends on everything that a Decrypt authenticates, so
// that a request can only find what the HSM returned for exactly the same request.
import { createHash } from "node:crypto";
import type { Annotations } from "./kms.js";

/**
 * Returns a digest of everything that determines a plaintext, each part with its length, so that no two inputs collide.
 */
export function cacheName(keyId: string, ciphertext: Uint8Array, annotations: Annotations): string {
  const hash = createHash("sha256");
  const add = (part: Uint8Array | string): void => {
    hash.update(`${typeof part === "string" ? Buffer.byteLength(part) : part.length}:`).update(part);
  };
  add(keyId);
  add(ciphertext);
  for (const name of Object.keys(annotations).sort()) {
    add(name);
    add(annotations[name] ?? "");
  }
  return hash.digest("base64");
}

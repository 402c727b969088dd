// Decrypting an object's data: only unchanged data under the right key and etcd key decrypts. The end-to-end tests
// decrypt what a real kube-apiserver has stored.

import { createSecretKey, randomBytes } from "node:crypto";

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { openData } from "../../src/etcd/data-key.js";
import type { SeedUse } from "../../src/etcd/stored-object.js";
import { sealedObject, type StoredSeed } from "../support/stored-secrets.js";

const KEY = "/registry/secrets/a/b";
const seedOf = (bytes: number): StoredSeed => ({
  seed: randomBytes(bytes),
  encrypted: { ciphertext: Buffer.of(1), keyId: "k", annotations: {} },
});
const open = (seed: Buffer, use: SeedUse, data: Uint8Array, etcdKey: string): Buffer =>
  openData(createSecretKey(seed), use, data, etcdKey);
const codeOf = (...args: Parameters<typeof open>): string => {
  try {
    open(...args);
    return "opened";
  } catch (error) {
    if (error instanceof KmsError) return error.code;
    throw error;
  }
};

describe("an object's data", () => {
  it.each([
    ["hkdf-sha256-seed", 1, 32],
    ["aes-gcm-key", 0, 16],
    ["aes-gcm-key", 0, 24],
    ["aes-gcm-key", 0, 32],
  ] as const)(
    "an object's data decrypts under its own seed and etcd key only: %s, type %i, %i bytes",
    (use, type, bytes) => {
      const stored = seedOf(bytes);
      for (const text of ["", "a value", "v".repeat(1_500_000)]) {
        const { encryptedData } = sealedObject(stored, KEY, text, type);
        expect(open(stored.seed, use, encryptedData, KEY).equals(Buffer.from(text))).toBe(true);
        expect(codeOf(stored.seed, use, encryptedData, `${KEY}c`)).toBe("NOT_AUTHENTIC");
        expect(codeOf(randomBytes(bytes), use, encryptedData, KEY)).toBe("NOT_AUTHENTIC");
      }
    },
  );

  it("an object's data is refused with NOT_AUTHENTIC or INPUT_INVALID, whatever the bytes", () => {
    const bytes = fc.uint8Array({ maxLength: 120 });
    const use = fc.constantFrom<SeedUse>("hkdf-sha256-seed", "aes-gcm-key");
    fc.assert(
      fc.property(bytes, use, bytes, (seed, how, data) => {
        expect(codeOf(Buffer.from(seed), how, data, KEY)).toMatch(/^(NOT_AUTHENTIC|INPUT_INVALID)$/);
      }),
    );
  });
});

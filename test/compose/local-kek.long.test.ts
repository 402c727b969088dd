// The plugin in mode local-kek as a process on a real SoftHSM token: every length, every changed byte, random questions.

import { randomBytes } from "node:crypto";

import fc from "fast-check";
import { expect, it } from "vitest";

import type { KmsCiphertext } from "../../src/kms-client/kms-client.js";
import { LOCAL_KEK_ANNOTATION } from "../../src/provider/local-kek.js";
import { inBatches } from "../support/in-batches.js";
import { usePlugin } from "../support/plugin-fixture.js";

const local = usePlugin({ mode: "local-kek" });

it("local-kek: round trips every length from 1 to 768 bytes", async () => {
  const { client } = local;
  const lengths = Array.from({ length: 768 }, (_, index) => index + 1);
  await inBatches(lengths, async (length) => {
    const plaintext = randomBytes(length);
    const sealed = await client.encrypt(plaintext, "length");
    expect(sealed.ciphertext.length).toBeLessThan(1024);
    expect((await client.decrypt(sealed, "length")).equals(plaintext)).toBe(true);
  });
});

it("local-kek: refuses a ciphertext or annotation with any one byte changed", async () => {
  const { client } = local;
  const sealed = await client.encrypt(randomBytes(32), "u");
  const flip = (bytes: Buffer, at: number): Buffer => {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
    return changed;
  };
  const wrapped = sealed.annotations[LOCAL_KEK_ANNOTATION] ?? Buffer.alloc(0);
  const questions: KmsCiphertext[] = [
    ...Array.from(sealed.ciphertext, (_, at) => ({ ...sealed, ciphertext: flip(sealed.ciphertext, at) })),
    ...Array.from(wrapped, (_, at) => ({
      ...sealed,
      annotations: { [LOCAL_KEK_ANNOTATION]: flip(wrapped, at) },
    })),
  ];
  expect(wrapped.length).toBeGreaterThan(60);
  await inBatches(questions, (question) =>
    expect(client.decrypt(question, "u")).rejects.toThrow(/^INVALID_ARGUMENT/),
  );
  await expect(client.decrypt(sealed, "u")).resolves.toHaveLength(32);
});

it("local-kek: refuses any random bytes, key_id and annotations with a final status", async () => {
  const { client } = local;
  const { keyId } = await client.status();
  const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
  const question = fc.record({
    ciphertext: fc.oneof(
      bytes,
      bytes.map((tail) => Buffer.concat([Buffer.of(1, 32), tail])),
    ),
    keyId: fc.oneof(fc.constant(keyId), fc.string({ unit: "binary", maxLength: 60 })),
    annotations: fc.dictionary(
      fc.oneof(fc.constant(LOCAL_KEK_ANNOTATION), fc.string({ maxLength: 20 })),
      fc.oneof(
        bytes,
        bytes.map((tail) => Buffer.concat([Buffer.of(1, 1, 12), tail])),
      ),
      { maxKeys: 2 },
    ),
  });
  await fc.assert(
    fc.asyncProperty(question, async (asked) => {
      const answer = await client.decrypt(asked, "fuzz").catch((error: unknown) => error);
      expect(String(answer)).toMatch(/INVALID_ARGUMENT|NOT_FOUND/);
    }),
    { numRuns: 200 },
  );
  expect((await client.status()).healthz).toBe("ok");
});

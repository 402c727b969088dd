// The envelope: its formats, its limits, and what its bytes bind.

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { MECHANISMS, type Mechanism } from "../../src/hsm/mechanisms.js";
import {
  associatedData,
  CHECKED_FORMAT,
  encodeEnvelope,
  LOCAL_KEK,
  parseEnvelope,
  PLAIN_FORMAT,
} from "../../src/provider/envelope.js";
import { MAX_CIPHERTEXT_BYTES, MAX_PLAINTEXT_BYTES } from "../../src/provider/kms.js";

describe("the envelope", () => {
  it("the envelope parses any bytes to a value or INPUT_INVALID", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1200 }), (bytes) => {
        try {
          parseEnvelope(bytes);
          return true;
        } catch (error) {
          return error instanceof KmsError && error.code === "INPUT_INVALID";
        }
      }),
      { numRuns: 2000 },
    );
  });

  const FORMATS = [
    { version: PLAIN_FORMAT, digest: 0 },
    { version: CHECKED_FORMAT, digest: 8 },
  ] as const;

  /** The body of RSA has the length of its keys, whatever the plaintext. */
  const isRsa = ({ choice }: Mechanism): boolean => choice === "rsa-oaep";
  const symmetric = MECHANISMS.filter((row) => !isRsa(row));

  it.each(MECHANISMS.filter(isRsa))("the envelope keeps $name within kube-apiserver's limit", (row) => {
    const ofBytes = (bytes: number): Buffer => encodeEnvelope(CHECKED_FORMAT, row.id, Buffer.alloc(bytes));
    for (const bytes of [2 * 256, 2 * 384, MAX_CIPHERTEXT_BYTES - 2]) {
      expect(parseEnvelope(ofBytes(bytes))).toMatchObject({ kind: "direct", mechanism: row });
      expect(parseEnvelope(ofBytes(bytes), 32), "a local KEK").toMatchObject({ mechanism: row });
    }
    for (const bytes of [256, MAX_CIPHERTEXT_BYTES - 1]) {
      expect(() => parseEnvelope(ofBytes(bytes))).toThrow();
    }
  });

  it.each(symmetric.flatMap((row) => FORMATS.map((format) => ({ name: row.name, row, ...format }))))(
    "the envelope keeps $name in format $version within kube-apiserver's limit",
    ({ row, version, digest }) => {
      const { min, max } = row.overhead;
      const ofBytes = (bytes: number): Buffer => encodeEnvelope(version, row.id, Buffer.alloc(bytes));
      const longest = ofBytes(MAX_PLAINTEXT_BYTES + digest + max);
      expect(longest.length).toBeLessThanOrEqual(MAX_CIPHERTEXT_BYTES);
      expect(parseEnvelope(longest)).toMatchObject({ kind: "direct", version, mechanism: row });
      expect(() => parseEnvelope(ofBytes(digest + min))).toThrow(/cannot hold/);
      expect(() => parseEnvelope(ofBytes(MAX_PLAINTEXT_BYTES + digest + max + 1))).toThrow(/cannot hold/);
    },
  );

  it("the envelope accepts local KEKs only in format 1", () => {
    const body = Buffer.alloc(60);
    expect(parseEnvelope(encodeEnvelope(PLAIN_FORMAT, LOCAL_KEK, body)).kind).toBe("local-kek");
    expect(() => parseEnvelope(encodeEnvelope(CHECKED_FORMAT, LOCAL_KEK, body))).toThrow(/mechanism 32/);
  });

  it("the envelope has a different byte for every mechanism", () => {
    const ids = [...MECHANISMS.map((row) => row.id), LOCAL_KEK];
    expect(new Set(ids).size).toBe(ids.length);
  });

  it("the envelope refuses an unknown version and names it", () => {
    expect(() => parseEnvelope(Buffer.alloc(63, 3))).toThrow(/version 3/);
  });

  it("the associated data binds version, mechanism and key_id", () => {
    expect(associatedData(2, 1, "k").toString("hex")).toBe("02016b");
  });
});

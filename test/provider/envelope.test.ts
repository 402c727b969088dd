import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { MECHANISMS } from "../../src/hsm/mechanisms.js";
import { associatedData, encodeEnvelope, LOCAL_KEK, parseEnvelope } from "../../src/provider/envelope.js";
import { MAX_CIPHERTEXT_BYTES, MAX_PLAINTEXT_BYTES } from "../../src/provider/kms.js";

describe("the envelope", () => {
  it("gives a value or INPUT_INVALID for any bytes", () => {
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

  it.each(MECHANISMS.map((row) => [row.name, row] as const))(
    "keeps %s within kube-apiserver's limit",
    (_name, row) => {
      const longest = encodeEnvelope(row.id, Buffer.alloc(MAX_PLAINTEXT_BYTES + row.overhead.max));
      expect(longest.length).toBeLessThanOrEqual(MAX_CIPHERTEXT_BYTES);
      expect(parseEnvelope(longest)).toMatchObject({ kind: "direct", mechanism: row });
      expect(() => parseEnvelope(encodeEnvelope(row.id, Buffer.alloc(row.overhead.min)))).toThrow(
        /cannot hold/,
      );
      expect(() =>
        parseEnvelope(encodeEnvelope(row.id, Buffer.alloc(MAX_PLAINTEXT_BYTES + row.overhead.max + 1))),
      ).toThrow(/cannot hold/);
    },
  );

  it("never gives two mechanisms one byte", () => {
    const ids = [...MECHANISMS.map((row) => row.id), LOCAL_KEK];
    expect(new Set(ids).size).toBe(ids.length);
  });

  it("refuses another version by its number", () => {
    expect(() => parseEnvelope(Buffer.alloc(63, 2))).toThrow(/version 2/);
  });

  it("binds version, mechanism and key_id", () => {
    expect(associatedData(1, "k").toString("hex")).toBe("01016b");
  });
});

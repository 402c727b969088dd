// The key_id: a frozen format, since stored data contains it.

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { makeKeyId, type FingerprintMethod } from "../../src/hsm/key-id.js";

const VALUE = Buffer.from("value");
const ids = fc.uint8Array({ maxLength: 40 });
const values = fc.uint8Array({ minLength: 16, maxLength: 64 });
const methods = fc.constantFrom<FingerprintMethod>("c", "g", "s", "p");

describe("the key_id", () => {
  it("a key_id is frozen, since stored data contains it", () => {
    expect(makeKeyId(Buffer.from("0102", "hex"), "c", VALUE)).toBe("0102.c4278ce9a67c7c1be6ac328354bcc2910");
    expect(makeKeyId(Buffer.alloc(0), "n", Buffer.alloc(0))).toBe("0.n");
    expect(makeKeyId(Buffer.alloc(17), "n", Buffer.alloc(0))).toMatch(/^h[0-9a-f]{32}\.n$/);
  });

  it("a key_id is printable and short for any CKA_ID", () => {
    fc.assert(
      fc.property(ids, methods, values, (id, method, value) =>
        /^[0-9a-z.]{3,67}$/.test(makeKeyId(id, method, value)),
      ),
    );
  });

  it("a key_id differs for another CKA_ID, method or value", () => {
    fc.assert(
      fc.property(
        ids,
        ids,
        methods,
        methods,
        values,
        values,
        (id1, id2, method1, method2, value1, value2) => {
          const same =
            Buffer.compare(id1, id2) === 0 && method1 === method2 && Buffer.compare(value1, value2) === 0;
          return same === (makeKeyId(id1, method1, value1) === makeKeyId(id2, method2, value2));
        },
      ),
    );
  });
});

// The stored working set: the frozen format, its limits, and bytes that are not a working set.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import fc from "fast-check";
import { expect, it } from "vitest";

import type { DecryptQuestion } from "../../src/provider/kms.js";
import { decodeWorkingSet, encodeWorkingSet, MAX_BYTES, MAX_ENTRIES } from "../../src/working-set/format.js";

interface Vector {
  readonly entries: readonly {
    readonly keyId: string;
    readonly ciphertext: string;
    readonly annotations: Readonly<Record<string, string>>;
  }[];
  readonly bytes: string;
}

const vector = JSON.parse(
  readFileSync(new URL("../vectors/working-set.json", import.meta.url), "utf8"),
) as Vector;
const hex = (text: string): Buffer => Buffer.from(text, "hex");
const frozen: DecryptQuestion[] = vector.entries.map(({ keyId, ciphertext, annotations }) => ({
  keyId,
  ciphertext: hex(ciphertext),
  annotations: Object.fromEntries(Object.entries(annotations).map(([name, value]) => [name, hex(value)])),
}));
const question = (ciphertext: Buffer): DecryptQuestion => ({ keyId: "01.k", ciphertext, annotations: {} });

it("the working set format reads and writes the frozen vector of version 1", () => {
  expect(decodeWorkingSet(hex(vector.bytes))).toEqual(frozen);
  expect(encodeWorkingSet(frozen).bytes.toString("hex")).toBe(vector.bytes);
});

it("the working set format reads back whatever a request may contain, in order", () => {
  const bytes = (maxLength: number): fc.Arbitrary<Buffer> =>
    fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
  const name = fc.string({ maxLength: 60, unit: "grapheme" }).filter((text) => text !== "__proto__");
  const questions = fc.array(
    fc.record({
      keyId: fc.string({ maxLength: 40, unit: "grapheme" }),
      ciphertext: bytes(1023),
      annotations: fc.dictionary(name, bytes(200), { maxKeys: 3, noNullPrototype: true }),
    }),
    { maxLength: 20 },
  );
  fc.assert(
    fc.property(questions, (asked) => {
      const { bytes: encoded, entries } = encodeWorkingSet(asked);
      expect(entries).toBe(asked.length);
      expect(decodeWorkingSet(encoded)).toEqual(asked);
    }),
  );
});

it("the working set format refuses bytes of which any was changed, removed or added", () => {
  const { bytes } = encodeWorkingSet(frozen);
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ 0x40;
    expect(() => decodeWorkingSet(changed)).toThrow(/is damaged|has format/);
    expect(() => decodeWorkingSet(bytes.subarray(0, at))).toThrow(/is damaged|is incomplete/);
  }
  expect(() => decodeWorkingSet(Buffer.concat([bytes, Buffer.of(0)]))).toThrow("is damaged");
});

it("the working set format refuses lengths that do not fit, even under a matching digest", () => {
  for (const content of [
    "01ffff",
    "010001",
    "0100016b",
    "0100016b0000",
    "0100016b000001",
    "0100016b0000010001",
  ]) {
    const digest = createHash("sha256").update(hex(content)).digest();
    expect(() => decodeWorkingSet(Buffer.concat([hex(content), digest]))).toThrow("is damaged");
  }
});

it("the working set format keeps the first entries within its limits of number and bytes", () => {
  function* endless(size: number): Generator<DecryptQuestion> {
    for (let at = 0; ; at++) {
      const ciphertext = Buffer.alloc(size);
      ciphertext.writeUInt32BE(at);
      yield question(ciphertext);
    }
  }
  const many = encodeWorkingSet(endless(4));
  expect(many.entries).toBe(MAX_ENTRIES);
  expect(decodeWorkingSet(many.bytes).at(-1)?.ciphertext).toEqual(hex("0000270f"));
  const large = encodeWorkingSet(endless(1023));
  expect(large.bytes.length).toBeLessThanOrEqual(MAX_BYTES);
  expect(large.entries).toBeLessThan(MAX_ENTRIES);
  expect(decodeWorkingSet(large.bytes)).toHaveLength(large.entries);
});

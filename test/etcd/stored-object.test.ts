// Parsing stored values: the prefix of each provider, the EncryptedObject with the API server's checks, and arbitrary
// bytes, which give a value or INPUT_INVALID.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KmsError } from "../../src/errors.js";
import { parseStoredValue, type StoredValue } from "../../src/etcd/stored-object.js";
import {
  bytesField,
  formatStoredObject,
  varintField,
  type StoredObject as FormattedObject,
} from "../e2e/harness/stored-object.js";

const SEALED: FormattedObject = {
  provider: "kms-pkcs11",
  encryptedData: Buffer.from("data"),
  keyId: "k1",
  encryptedDekSource: Buffer.from("seed"),
  annotations: { "a.example.com": Buffer.of(1), "b.example.com": Buffer.of(2, 3) },
  encryptedDekSourceType: 1,
};
const PARSED = {
  encryptedData: Buffer.from("data"),
  keyId: "k1",
  encryptedSeed: Buffer.from("seed"),
  annotations: { "a.example.com": Buffer.of(1), "b.example.com": Buffer.of(2, 3) },
  seedUse: "hkdf-sha256-seed",
};

const sealed = (changes: Partial<FormattedObject> = {}): Buffer =>
  formatStoredObject({ ...SEALED, ...changes });
const with_ = (...fields: Buffer[]): Buffer => Buffer.concat([sealed(), ...fields]);
const refusal = (value: Buffer): string => {
  try {
    parseStoredValue(value);
  } catch (error) {
    if (error instanceof KmsError && error.code === "INPUT_INVALID") return error.message;
    throw error;
  }
  throw new Error("the value was parsed");
};
const kmsObject = (value: StoredValue): unknown => value.kind === "kms-v2" && value.object;

describe("a stored value of KMS v2", () => {
  it("a KMS v2 value is read with every field", () => {
    expect(parseStoredValue(sealed())).toEqual({
      kind: "kms-v2",
      providerName: "kms-pkcs11",
      object: PARSED,
    });
  });

  it("a KMS v2 value without a type has an AES-GCM key instead of a seed", () => {
    const value = parseStoredValue(sealed({ encryptedDekSourceType: 0 }));
    expect(kmsObject(value)).toMatchObject({ seedUse: "aes-gcm-key" });
  });

  it("a KMS v2 value may have unknown fields; the last of repeated known fields counts", () => {
    const fixed64 = Buffer.concat([Buffer.of((9 << 3) | 1), Buffer.alloc(8)]);
    const group = Buffer.of((10 << 3) | 3, (1 << 3) | 0, 5, (10 << 3) | 4);
    const fixed32 = Buffer.concat([Buffer.of((11 << 3) | 5), Buffer.alloc(4)]);
    const unknown = [varintField(8, 7), fixed64, group, fixed32, bytesField(12, Buffer.from("x"))];
    const value = parseStoredValue(with_(...unknown, bytesField(2, Buffer.from("k2"))));
    expect(kmsObject(value)).toEqual({ ...PARSED, keyId: "k2" });
  });

  it("a KMS v2 value ignores a known field that has another wire type", () => {
    expect(kmsObject(parseStoredValue(with_(varintField(2, 99), bytesField(5, Buffer.of(0)))))).toEqual(
      PARSED,
    );
  });

  it.each([
    ["data", { encryptedData: Buffer.alloc(0) }, "no encrypted data"],
    ["seed", { encryptedDekSource: Buffer.alloc(0) }, "encrypted DEK source has 0 bytes"],
    [
      "seed of at most 1024 bytes",
      { encryptedDekSource: Buffer.alloc(1025) },
      "encrypted DEK source has 1025 bytes",
    ],
    ["key_id", { keyId: "" }, "key_id has 0 bytes"],
    ["key_id of at most 1024 bytes", { keyId: "k".repeat(1025) }, "key_id has 1025 bytes"],
    ["size of its annotations", { annotations: { a: Buffer.alloc(32_768) } }, "annotations has 32769 bytes"],
    ["type", { encryptedDekSourceType: 2 }, "encryptedDEKSourceType 2 is not known"],
  ])("a KMS v2 value is refused without a valid %s", (_what, changes, reason) => {
    expect(refusal(sealed(changes))).toContain(reason);
  });

  it("a KMS v2 value is refused if it is truncated anywhere or its key_id is not UTF-8", () => {
    const whole = sealed({ annotations: {} });
    const prefix = whole.indexOf("kms-pkcs11:") + "kms-pkcs11:".length;
    // Behind the seed only the type follows, without which the object is still valid.
    for (let length = 0; length < whole.length - 2; length++) {
      expect(refusal(whole.subarray(0, length)), String(length)).toContain("cannot be read");
    }
    expect(refusal(whole.subarray(0, prefix - 1))).toContain("does not name a provider and a key");
    expect(refusal(with_(bytesField(2, Buffer.of(0xff))))).toContain("not UTF-8");
  });
});

describe("other stored values", () => {
  it.each(["aescbc:v1", "aesgcm:v1", "secretbox:v1", "kms:v1"])(
    "stored values of %s are recognised by their prefix",
    (provider) => {
      const value = Buffer.concat([Buffer.from(`k8s:enc:${provider}:key-1:`), Buffer.of(0, 255, 58)]);
      expect(parseStoredValue(value)).toEqual({ kind: "other-provider", provider, keyName: "key-1" });
    },
  );

  it.each([
    ["protobuf", Buffer.from("k8s\0\n\f")],
    ["json", Buffer.from('{"kind":"Widget"}\n')],
    ["cbor", Buffer.of(0xd9, 0xd9, 0xf7, 0xa0)],
  ])("stored values in clear are recognised by their first bytes: %s", (encoding, value) => {
    expect(parseStoredValue(value)).toEqual({ kind: "plaintext", encoding, bytes: value });
  });

  it.each(["", "k8s", "K8s:enc:kms:v2:n:", "k8s:enc:", "k8s:enc:kms:v2:", "k8s:enc:kms:v2::x", "hello"])(
    "stored values are refused if they are of no known kind: %j",
    (text) => {
      expect(refusal(Buffer.from(text))).toMatch(/^the stored value cannot be read: it/);
    },
  );

  it("stored values are parsed or refused with INPUT_INVALID, whatever the bytes", () => {
    const prefix = fc.constantFrom("", "k8s:enc:", "k8s:enc:kms:v2:n:", "k8s:enc:kms:v1:", "k8s\0", "{");
    const bytes = fc.uint8Array({ maxLength: 200 });
    const flips = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 8 });
    const read = (value: Buffer): void => {
      try {
        expect(parseStoredValue(value).kind).toMatch(/^(kms-v2|other-provider|plaintext)$/);
      } catch (error) {
        if (!(error instanceof KmsError)) throw error;
        expect(error.code).toBe("INPUT_INVALID");
      }
    };
    fc.assert(
      fc.property(prefix, bytes, (start, rest) => {
        read(Buffer.concat([Buffer.from(start), rest]));
      }),
      { numRuns: 2_000 },
    );
    fc.assert(
      fc.property(flips, (changes) => {
        const value = sealed();
        for (const [at, byte] of changes) value[at % value.length] = byte;
        read(value);
      }),
      { numRuns: 2_000 },
    );
  });
});

// The table of CKR codes: complete, and with the right error for each operation.

import pkcs11js from "pkcs11js";
import { describe, expect, it } from "vitest";

import { CKR_TABLE, hexOf, rowOf } from "../../src/token-host/ckr-table.js";
import { encryptFault, rvOf, toFault } from "../../src/token-host/ckr.js";

const CODES = Object.entries(pkcs11js).filter(
  ([name, value]) =>
    name.startsWith("CKR_") &&
    name !== "CKR_OK" &&
    name !== "CKR_VENDOR_DEFINED" &&
    typeof value === "number",
) as [string, number][];

/** What the headers of v3.0 to v3.2 (OASIS, pkcs11t.h) define in addition to pkcs11js, with the expected rows. */
const CODES_OF_3 = [
  ["CKR_AEAD_DECRYPT_FAILED", 0x42, "input", "NOT_AUTHENTIC"],
  ["CKR_OPERATION_CANCEL_FAILED", 0x202, "session", "SESSION_LOST"],
  ["CKR_KEY_EXHAUSTED", 0x203, "setup", "KEY_UNSUITABLE"],
  ["CKR_PENDING", 0x204, "session", "SESSION_LOST"],
  ["CKR_SESSION_ASYNC_NOT_SUPPORTED", 0x205, "setup", "TOKEN_REFUSED"],
  ["CKR_SEED_RANDOM_REQUIRED", 0x206, "setup", "TOKEN_REFUSED"],
  ["CKR_OPERATION_NOT_VALIDATED", 0x207, "setup", "TOKEN_REFUSED"],
  ["CKR_TOKEN_NOT_INITIALIZED", 0x208, "device", "HSM_UNAVAILABLE"],
  ["CKR_PARAMETER_SET_NOT_SUPPORTED", 0x209, "setup", "MECHANISM_UNSUPPORTED"],
] as const;

it("a CK_RV of -1 is shown as the value that the module returned", () => {
  expect([hexOf(0xa0), hexOf(Number(2n ** 64n - 1n))]).toEqual(["0xa0", "0xffffffffffffffff"]);
});

describe("the CKR table", () => {
  it.each(CODES_OF_3)("the CKR table has a row for %s", (name, value, fault, code) => {
    expect(CKR_TABLE[value]).toEqual({ name, fault, code });
  });

  it("the CKR table has a row for every return value of the standard", () => {
    expect(CODES.length).toBeGreaterThan(80);
    for (const [name, value] of CODES) expect(CKR_TABLE[value]?.name, name).toBe(name);
  });

  it("an unknown CK_RV means a broken module and is reported by its number", () => {
    expect(rowOf(0x80001234)).toMatchObject({ fault: "device", name: "CK_RV 0x80001234" });
  });

  it("the CK_RV is read from both kinds of pkcs11js error", () => {
    expect(rvOf(Object.assign(new Error("x"), { code: 0xa0 }))).toBe(0xa0);
    expect(rvOf(new Error("CKR_ATTRIBUTE_VALUE_INVALID:19"))).toBe(19);
    expect(rvOf(new Error("other"))).toBeUndefined();
  });

  it("a refused encryption blames the plaintext, not a ciphertext", () => {
    const fault = encryptFault(
      toFault(Object.assign(new Error("x"), { code: 0x21 }), "encrypting (C_Encrypt)"),
    );
    expect(fault).toMatchObject({ fault: "input", code: "INPUT_INVALID", rv: 0x21 });
    expect((fault as Error).message).toMatch(
      /CKR_DATA_LEN_RANGE \(0x21\); the token does not accept this plaintext/,
    );
  });

  it("no code advises running check, which shows these messages itself", () => {
    for (const [name, value] of CODES) {
      const { message } = toFault(Object.assign(new Error("x"), { code: value }), "a call");
      expect(message, name).toMatch(/; \S+ /);
      expect(message, name).not.toMatch(/kms-pkcs11 check/);
    }
  });

  it("a fault says the code and what to do", () => {
    const fault = toFault(Object.assign(new Error("x"), { code: 0xa0 }), "logging in (C_Login)");
    expect(fault).toMatchObject({ fault: "setup", code: "PIN_REFUSED", rv: 0xa0 });
    expect(fault.message).toMatch(/CKR_PIN_INCORRECT \(0xa0\); this PIN is not tried again/);
  });
});

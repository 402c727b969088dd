import pkcs11js from "pkcs11js";
import { describe, expect, it } from "vitest";

import { CKR_TABLE, rowOf, rvOf, toFault } from "../../src/token-host/ckr.js";

const CODES = Object.entries(pkcs11js).filter(
  ([name, value]) =>
    name.startsWith("CKR_") &&
    name !== "CKR_OK" &&
    name !== "CKR_VENDOR_DEFINED" &&
    typeof value === "number",
) as [string, number][];

describe("the CKR table", () => {
  it("has a row for every return value of the standard", () => {
    expect(CODES.length).toBeGreaterThan(80);
    for (const [name, value] of CODES) expect(CKR_TABLE[value]?.name, name).toBe(name);
  });

  it("treats an unknown value as a broken module, by its number", () => {
    expect(rowOf(0x80001234)).toMatchObject({ fault: "device", name: "CK_RV 0x80001234" });
  });

  it("reads the value from both kinds of pkcs11js error", () => {
    expect(rvOf(Object.assign(new Error("x"), { code: 0xa0 }))).toBe(0xa0);
    expect(rvOf(new Error("CKR_ATTRIBUTE_VALUE_INVALID:19"))).toBe(19);
    expect(rvOf(new Error("other"))).toBeUndefined();
  });

  it("says the code and what to do", () => {
    const fault = toFault(Object.assign(new Error("x"), { code: 0xa0 }), "logging in (C_Login)");
    expect(fault).toMatchObject({ fault: "setup", code: "PIN_REFUSED", rv: 0xa0 });
    expect(fault.message).toMatch(/CKR_PIN_INCORRECT \(0xa0\); correct the PIN/);
  });
});

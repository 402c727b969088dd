// The forms in which an operator names a KEK, and which KEKs each form matches.

import { describe, expect, it } from "vitest";

import { findReferenced, parseKeyReference, type NamedKey } from "../../src/admin/key-reference.js";
import { makeKeyId, nameCkaId } from "../../src/hsm/key-id.js";

const VALUE = Buffer.from("value");
const LONG = Buffer.alloc(20, 9);
const idOf = (ckaId: string): string => makeKeyId(Buffer.from(ckaId, "hex"), "c", VALUE);
const key = (state: string, ...keyIds: string[]): NamedKey => ({ keyIds, state });
const KEYS = [
  key("retired", idOf("0102")),
  key("retired", idOf("010203")),
  key("active", idOf("0f"), makeKeyId(Buffer.of(15), "s", VALUE)),
  key("standby", makeKeyId(LONG, "c", VALUE)),
  key("refused", "0.n"),
];
const find = (text: string): string | undefined =>
  findReferenced("it", parseKeyReference("it", text), KEYS)?.keyIds[0];

describe("a reference to a KEK", () => {
  it.each([
    ["a whole key_id", idOf("0102"), 0],
    ["an alias", makeKeyId(Buffer.of(15), "s", VALUE), 2],
    ["a key_id without a CKA_ID and a fingerprint", "0.n", 4],
    ["a CKA_ID that another one begins with", "0102", 0],
    ["a long CKA_ID", LONG.toString("hex"), 3],
    ["a long CKA_ID's digest", nameCkaId(LONG), 3],
    ["capital letters", "0F", 2],
    ["a beginning that ends in the CKA_ID", "01020", 1],
    ["a beginning that ends in the fingerprint", idOf("0102").slice(0, 9), 0],
    ["a CKA_ID with the dot", "0102.", 0],
    ["the only one in a state", "@standby", 3],
  ])("a reference to a KEK is %s", (_what, text, at) => {
    expect(find(text)).toBe(KEYS[at]?.keyIds[0]);
  });

  it("a reference to a KEK finds nothing if no KEK has the whole key_id", () => {
    expect(find(idOf("05"))).toBeUndefined();
  });

  it.each(["010", "@retired", "aa", "@active "])(
    "a reference to a KEK is refused if it matches no KEK or several: %s",
    (text) => {
      expect(() => find(text)).toThrow(/^it: .*(key_id|@active)/);
    },
  );

  it.each([
    "",
    " ",
    "foo",
    "kms-kek@20270101T000000Z",
    "@",
    "@Active",
    "0102.x",
    "g",
    "h01.",
    "0102.cZ",
    " 0102",
  ])("a reference to a KEK is refused for its form: %j", (text) => {
    expect(() => parseKeyReference("it", text)).toThrow("it: ");
  });
});

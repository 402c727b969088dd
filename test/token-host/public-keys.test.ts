// Public keys that carry the KEK's name, which anybody with access to the token may have made.

import { expect, it } from "vitest";

import type { FoundKey } from "../../src/token-host/found-key.js";
import { pairKeys } from "../../src/token-host/kek-naming.js";
import { limitPublicKeys } from "../../src/token-host/public-keys.js";

const key = (kind: FoundKey["kind"], isPrivate: boolean): FoundKey => ({
  handle: Buffer.alloc(8),
  label: "kms-kek",
  ckaId: Buffer.of(1),
  kind,
  attributes: new Map([["private", Buffer.of(isPrivate ? 1 : 0)]]),
});

it("a public key with the name of a pair does not split the pair", () => {
  const [aes, hmac, planted] = [key("aes", true), key("hmac", true), key("hmac", false)];
  expect(pairKeys([planted, aes, hmac])).toEqual([[planted], [aes, hmac]]);
});

it("many public keys are left out and reported, and no protected one with them", () => {
  const planted = Array.from({ length: 1_500 }, () => key("aes", false));
  const kek = key("aes", true);
  const { kept, faults } = limitPublicKeys([...planted, kek], "kms-kek");
  expect(kept).toHaveLength(101);
  expect(kept.at(-1)).toBe(kek);
  expect(faults).toHaveLength(1_400);
  expect(faults[0]?.message).toMatch(/of the 1500 public keys named "kms-kek" only 100 are read/);
});

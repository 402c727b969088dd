// The keyring of several tokens, one of which also holds keys that somebody without its PIN has made.

import { expect, it } from "vitest";

import type { Token } from "../../src/admin/command-tokens.js";
import { viewKeyring } from "../../src/admin/keyring-view.js";
import { PUBLIC_KEY, type KekRecord } from "../../src/hsm/port.js";
import { kekRecord } from "../support/kek-record.js";

const POLICY = { objectName: "kms-kek", allowUnprotected: [] };
const LABEL = "kms-kek@20260101T000000Z";
const kek = kekRecord(LABEL, "0a.c01", { ckaId: "0a" });
const planted = (label: string, keyId: string): KekRecord =>
  kekRecord(label, keyId, { ckaId: "0a", unprotected: [PUBLIC_KEY] });

function token(name: string, records: readonly KekRecord[]): Token {
  return { name, records, failure: undefined, hsm: undefined as unknown as Token["hsm"], openMs: 0 };
}

it("public keys with a KEK's label, CKA_ID or key_id change nothing about it", () => {
  const publicKeys = [planted(LABEL, "0a.c02"), planted("kms-kek@20250101T000000Z", kek.keyId)];
  for (const first of [
    [kek, ...publicKeys],
    [...publicKeys, kek],
  ]) {
    const tokens = [token("first", first), token("second", [kek])];
    const { active, keys } = viewKeyring(tokens, POLICY, Date.UTC(2026, 10, 27));
    expect(active?.record).toMatchObject({ keyId: kek.keyId, label: LABEL, remarks: [] });
    expect(keys.map(({ record, state }) => [record.keyId, state])).toEqual([
      [kek.keyId, "active"],
      ["0a.c02", "refused"],
    ]);
  }
});

it("a refused key shows each finding once", () => {
  const refused = kekRecord(LABEL, "0a.c03", { unprotected: ["CKA_EXTRACTABLE is true"], remarks: ["weak"] });
  const [key] = viewKeyring([token("first", [refused])], POLICY, Date.UTC(2026, 10, 27)).keys;
  expect(key?.findings).toEqual([expect.stringMatching(/^CKA_EXTRACTABLE is true; /), "weak"]);
});

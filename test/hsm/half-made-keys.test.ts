// A key that another process is making is left alone until it is complete. SoftHSM 2.6.1 lists a key from its first
// attribute on, and if a missing attribute is read, it overwrites the maker's value with a default.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, it } from "vitest";

import { useToken } from "../support/token-fixture.js";
import { openToken } from "../support/token-hsm.js";

/** CKA_CLASS, CKA_TOKEN, CKA_PRIVATE and CKA_KEY_TYPE as SoftHSM stores them: type, kind of value, value. */
const CLASS = [0x0n, 2n, 4n] as const;
const NOT_ON_TOKEN = [0x1n, 1n, 0] as const;
const PRIVATE = [0x2n, 1n, 0xff] as const;
const AES = [0x100n, 2n, 0x1fn] as const;

const made = useToken();

function bigEndian(value: bigint | number): Buffer {
  if (typeof value === "number") return Buffer.of(value);
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

/**
 * Writes a key's file that contains only these attributes, as if its maker had not finished, and makes others read it.
 */
function halfMake(...attributes: readonly (readonly (bigint | number)[])[]): string {
  const tokens = join(made.token.folder, "tokens");
  const folder = join(tokens, readdirSync(tokens)[0] ?? "");
  const file = join(folder, "5e880777-456f-df61-bf92-d187e5adb571.object");
  writeFileSync(file, Buffer.concat([[1n], ...attributes].flat().map(bigEndian)));
  writeFileSync(file.replace(/object$/, "lock"), "");
  const generation = join(folder, "generation");
  writeFileSync(generation, bigEndian(readFileSync(generation).readBigUInt64BE() + 1n));
  return file;
}

it.each([
  ["its class alone", [CLASS]],
  ["a beginning", [CLASS, NOT_ON_TOKEN, PRIVATE]],
  ["more", [CLASS, NOT_ON_TOKEN, PRIVATE, AES]],
])("a key that another process is making, with %s so far, is left untouched", async (_what, attributes) => {
  const { hsm } = openToken(made.token);
  try {
    const { label } = await hsm.generate({
      label: "kms-kek@20260101T000000Z",
      ckaId: "01",
      kind: "auto",
    });
    const file = halfMake(...attributes);
    const before = readFileSync(file);
    const records = await hsm.listKeks();
    expect(records.map((record) => record.label)).toContain(label);
    expect(readFileSync(file).equals(before)).toBe(true);
    expect((await hsm.listKeksReloaded()).map((record) => record.label)).toContain(label);
    expect(readFileSync(file).equals(before)).toBe(true);
  } finally {
    await hsm.stop(200);
  }
});

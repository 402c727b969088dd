// Two objects with one key_id and two labels, as an interrupted relabelling leaves them: which of them is destroyed.

import { expect, it } from "vitest";

import { PUBLIC_KEY } from "../../src/hsm/port.js";
import type { Kek } from "../../src/token-host/kek.js";
import { relabel } from "../../src/token-host/relabel.js";
import type { TokenSession } from "../../src/token-host/session.js";
import { kekRecord } from "../support/kek-record.js";

const LABEL = "kms-kek@20260101T000000Z";
const ORIGINAL = Buffer.of(1);
const COPY = Buffer.of(2);

function twice(keyId: string): Kek[] {
  const fingerprints = { aes: keyId.endsWith("n") ? undefined : Buffer.of(7) };
  return [
    { record: kekRecord("kms-kek", keyId), aes: ORIGINAL, fingerprints, discovered: {}, checkedAt: 0 },
    { record: kekRecord(LABEL, keyId), aes: COPY, fingerprints, discovered: {}, checkedAt: 0 },
  ];
}

/** A session that performs C_DestroyObject only, and collects the objects. */
function destroyingSession() {
  const destroyed: Buffer[] = [];
  const lib = { C_DestroyObject: (_session: Buffer, object: Buffer) => destroyed.push(object) };
  const run = (_doing: string, call: (handle: Buffer) => void): void => {
    call(Buffer.of(9));
  };
  return { session: { lib, run } as unknown as TokenSession, destroyed };
}

it("a relabelling destroys the original whose copy carries the new label, never the copy", () => {
  const { session, destroyed } = destroyingSession();
  relabel(session, twice("07.c00"), "07.c00", LABEL);
  expect(destroyed).toEqual([ORIGINAL]);
});

it("a relabelling keeps the original if no fingerprint shows that both have one value", () => {
  const { session, destroyed } = destroyingSession();
  expect(() => {
    relabel(session, twice("07.n"), "07.n", LABEL);
  }).toThrow(/computes no fingerprint/);
  expect(destroyed).toEqual([]);
});

it("a relabelling keeps a protected key if a public one has its key_id and the new label", () => {
  const { session, destroyed } = destroyingSession();
  const [original, copy] = twice("07.c00") as [Kek, Kek];
  const planted = { ...copy, record: { ...copy.record, unprotected: [PUBLIC_KEY] } };
  expect(() => {
    relabel(session, [original, planted], "07.c00", LABEL);
  }).toThrow();
  expect(destroyed).toEqual([]);
});

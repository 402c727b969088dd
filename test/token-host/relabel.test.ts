// Two objects with one key_id and two labels, as an interrupted relabelling leaves them: which of them is destroyed.

import { expect, it } from "vitest";

import type { Kek } from "../../src/token-host/kek.js";
import { finishRelabel } from "../../src/token-host/relabel.js";
import type { TokenSession } from "../../src/token-host/session.js";
import { kekRecord } from "../support/kek-record.js";

const LABEL = "kms-kek@20260101T000000Z";
const ORIGINAL = Buffer.of(1);
const COPY = Buffer.of(2);

function twice(keyId: string): Kek[] {
  return [
    { record: kekRecord("kms-kek", keyId), aes: ORIGINAL, discovered: {} },
    { record: kekRecord(LABEL, keyId), aes: COPY, discovered: {} },
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

it("destroys the original of a key whose copy carries the new label, never the copy", () => {
  const { session, destroyed } = destroyingSession();
  expect(finishRelabel(session, twice("07.c00"), LABEL)).toBe(true);
  expect(destroyed).toEqual([ORIGINAL]);
});

it("destroys nothing if no copy carries the new label", () => {
  const { session, destroyed } = destroyingSession();
  expect(finishRelabel(session, twice("07.c00").slice(0, 1), LABEL)).toBe(false);
  expect(destroyed).toEqual([]);
});

it("refuses to destroy an original if no fingerprint shows that both have one value", () => {
  const { session, destroyed } = destroyingSession();
  expect(() => finishRelabel(session, twice("07.n"), LABEL)).toThrow(/computes no fingerprint/);
  expect(destroyed).toEqual([]);
});

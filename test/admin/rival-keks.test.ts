// Two KEKs made at the same time: which one stays, and what the command that made the other one does.

import { expect, it } from "vitest";

import { requireNoRival, type MadeKek } from "../../src/admin/rival-keks.js";
import { KmsError } from "../../src/errors.js";
import type { KekRecord } from "../../src/hsm/port.js";
import { kekRecord } from "../support/kek-record.js";

const LABEL = "kms-kek@20300101T000000Z";
const older = kekRecord(LABEL, "01.c00");
const newer = kekRecord(LABEL, "02.c00");
const window = { begunBy: Date.now() + 60_000, endedBy: Date.now() + 70_000 };

/**
 * Returns one command's view of a token: it has made `made`, and then lists what `listings` contain; the last listing
 * is repeated.
 */
function command(made: KekRecord, ...listings: (readonly KekRecord[])[]) {
  const destroyed: KekRecord[] = [];
  let listed = 0;
  const kek: MadeKek = {
    made,
    listed: listings[0] ?? [],
    isRival: ({ label }) => label === LABEL,
    unusedUntil: window,
    hsm: {
      destroy: (target) => {
        destroyed.push(target as KekRecord);
        return Promise.resolve(1);
      },
      listKeksReloaded: () => {
        const records = listings[Math.min(++listed, listings.length - 1)] ?? [];
        return Promise.resolve(records.filter((record) => !destroyed.includes(record)));
      },
    },
  };
  return { kek, destroyed };
}

it("keys create accepts a KEK if the token shows no other with the same activation", async () => {
  const { kek, destroyed } = command(newer, [newer, kekRecord("kms-kek@20290101T000000Z", "00.c00")]);
  await requireNoRival(kek);
  expect(destroyed).toEqual([]);
});

it("keys create destroys the newer of two KEKs and says why the command failed", async () => {
  const { kek, destroyed } = command(newer, [older, newer]);
  await expect(requireNoRival(kek)).rejects.toMatchObject({
    code: "TOKEN_REFUSED",
    message:
      /another command made .*01\.c00.* at the same time; this command's .*02\.c00.* was destroyed unused/,
  });
  expect(destroyed).toEqual([newer]);
});

it("keys create keeps the older of two KEKs and waits until the newer is destroyed", async () => {
  const { kek, destroyed } = command(older, [older, newer], [older, newer], [older]);
  await requireNoRival(kek);
  expect(destroyed).toEqual([]);
});

it("keys create destroys neither KEK if the other command keeps the newer, and names both", async () => {
  const { kek, destroyed } = command(older, [older, newer]);
  await expect(requireNoRival(kek, 600)).rejects.toMatchObject({
    code: "KEY_AMBIGUOUS",
    message: /01\.c00.*02\.c00.*both are on the token/,
  });
  expect(destroyed).toEqual([]);
});

it.each([
  ["older", older],
  ["newer", newer],
])(
  "nothing is destroyed if the KEKs are active at once, as seen by the command of the %s",
  async (_name, made) => {
    const { kek, destroyed } = command(made, [older, newer]);
    await expect(requireNoRival({ ...kek, unusedUntil: undefined })).rejects.toMatchObject({
      code: "KEY_AMBIGUOUS",
      message: /both are on the token.*keys list.*keys destroy/,
    });
    expect(destroyed).toEqual([]);
  },
);

it("keys create reports both KEKs if its own cannot be destroyed", async () => {
  const { kek } = command(newer, [older, newer]);
  const late = new KmsError("TOKEN_REFUSED", "the token was too slow");
  const failing = { ...kek, hsm: { ...kek.hsm, destroy: () => Promise.reject(late) } };
  await expect(requireNoRival(failing)).rejects.toThrow(
    /01\.c00.*02\.c00.* could not be destroyed: the token was too slow/,
  );
});

it("a rotation that must be alone destroys its KEK if the newer one stays", async () => {
  const { kek, destroyed } = command(older, [older, newer]);
  await expect(requireNoRival({ ...kek, withdraws: true }, 600)).rejects.toMatchObject({
    code: "TOKEN_REFUSED",
    message:
      /another command made .*02\.c00.* at the same time; this command's .*01\.c00.* was destroyed unused/,
  });
  expect(destroyed).toEqual([older]);
});

it("a rotation that must be alone keeps its KEK if the newer one goes", async () => {
  const { kek, destroyed } = command(older, [older, newer], [older, newer], [older]);
  await requireNoRival({ ...kek, withdraws: true });
  expect(destroyed).toEqual([]);
});

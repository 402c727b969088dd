// A token that reports a new KEK but does not keep it. No real token does that on demand.

import { afterEach, expect, it, vi } from "vitest";

import { makeGeneration, type NewGeneration } from "../../src/admin/new-generation.js";
import { KmsError } from "../../src/errors.js";
import { PUBLIC_KEY, type KekRecord } from "../../src/hsm/port.js";

const LABEL = "kms-kek@20260101T000000Z";
const MADE: KekRecord = {
  keyId: "01.c00",
  aliases: [],
  label: LABEL,
  ckaId: "01",
  kind: "aes",
  unprotected: [],
  remarks: [],
};
const ORDER: NewGeneration = {
  policy: { objectName: "kms-kek", allowUnprotected: [] },
  label: LABEL,
  mechanism: "auto",
  isRival: () => true,
  unusedUntil: { begunBy: Infinity, endedBy: Infinity },
};

function tokenThatShows(kept: () => Promise<readonly KekRecord[]>) {
  return {
    token: () => undefined,
    generate: () => Promise.resolve(MADE),
    destroy: () => Promise.resolve(1),
    relabel: () => Promise.resolve(MADE),
    listKeksReloaded: kept,
  };
}

const AWAY = new KmsError("HSM_UNAVAILABLE", "the token is away");

afterEach(() => {
  vi.restoreAllMocks();
});

it("a KEK that the token has not kept is an error that says what to do", async () => {
  const made = makeGeneration(
    tokenThatShows(() => Promise.resolve([])),
    ORDER,
  );
  await expect(made).rejects.toMatchObject({
    code: "KEY_MISSING",
    message: /has not kept it.*run the command/,
  });
});

it("a KEK that cannot be read back for seconds is an error that names it", async () => {
  vi.spyOn(performance, "now").mockReturnValueOnce(0).mockReturnValueOnce(4_999).mockReturnValue(5_000);
  const kept = vi.fn(() => Promise.reject(AWAY));
  const made = makeGeneration(tokenThatShows(kept), ORDER);
  await expect(made).rejects.toMatchObject({
    code: "HSM_UNAVAILABLE",
    message: /01\.c00.* was made and could not be read back: the token is away/,
  });
  expect(kept).toHaveBeenCalledTimes(2);
});

it("a KEK is read back again if a library failed that was loaded while another process wrote", async () => {
  const kept = vi.fn(() => Promise.resolve([MADE])).mockRejectedValueOnce(AWAY);
  expect((await makeGeneration(tokenThatShows(kept), ORDER)).made).toEqual(MADE);
});

it("reading back a KEK is not repeated after an error that is not an outage", async () => {
  const kept = vi.fn(() => Promise.reject(new KmsError("KEY_AMBIGUOUS", "two keys")));
  await expect(makeGeneration(tokenThatShows(kept), ORDER)).rejects.toMatchObject({ code: "KEY_AMBIGUOUS" });
  expect(kept).toHaveBeenCalledTimes(1);
});

it("a KEK that a reloaded library shows is returned", async () => {
  const made = makeGeneration(
    tokenThatShows(() => Promise.resolve([MADE])),
    ORDER,
  );
  expect(await made).toEqual({ made: MADE, listed: [MADE] });
});

it("a key that somebody has made without a PIN is not a rival", async () => {
  const planted = { ...MADE, keyId: "00.c00", unprotected: [PUBLIC_KEY] };
  const made = makeGeneration(
    tokenThatShows(() => Promise.resolve([MADE, planted])),
    ORDER,
  );
  expect((await made).made).toEqual(MADE);
});

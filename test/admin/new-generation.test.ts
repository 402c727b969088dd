// A key that a token makes and does not keep, which none does on command.

import { expect, it } from "vitest";

import { makeGeneration } from "../../src/admin/new-generation.js";
import { KmsError } from "../../src/errors.js";
import type { KekRecord } from "../../src/hsm/port.js";

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
const POLICY = { objectName: "kms-kek", allowUnprotected: [] };

function tokenThatShows(kept: () => Promise<readonly KekRecord[]>) {
  return {
    token: () => undefined,
    generate: () => Promise.resolve(MADE),
    destroy: () => Promise.resolve(1),
    relabel: () => Promise.resolve(MADE),
    listKeksReloaded: kept,
  };
}

it("is no success, and says what to do", async () => {
  const made = makeGeneration(
    tokenThatShows(() => Promise.resolve([])),
    POLICY,
    LABEL,
    "auto",
  );
  await expect(made).rejects.toMatchObject({
    code: "KEY_MISSING",
    message: /has not kept it.*run the command/,
  });
});

it("is not passed over where the token cannot be read again", async () => {
  const away = new KmsError("HSM_UNAVAILABLE", "the token is away");
  const made = makeGeneration(
    tokenThatShows(() => Promise.reject(away)),
    POLICY,
    LABEL,
    "auto",
  );
  await expect(made).rejects.toMatchObject({
    code: "HSM_UNAVAILABLE",
    message: /01\.c00.* was made and could not be read back: the token is away/,
  });
});

it("is returned once a library loaded anew shows it", async () => {
  const made = makeGeneration(
    tokenThatShows(() => Promise.resolve([MADE])),
    POLICY,
    LABEL,
    "auto",
  );
  expect(await made).toEqual(MADE);
});

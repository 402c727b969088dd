// A KEK passed from one lane to another: the handle counts only if the key behind it computes the KEK's fingerprint.

import type { PKCS11 } from "pkcs11js";
import { expect, it } from "vitest";

import { makeKeyId } from "../../src/hsm/key-id.js";
import { TokenSession } from "../../src/token-host/session.js";
import type { Kek } from "../../src/token-host/kek.js";
import { KekUse, type SlotToken } from "../../src/token-host/kek-use.js";
import type { LaneKeyring } from "../../src/token-host/lane-keyring.js";
import { fromShared, toShared } from "../../src/token-host/shared-kek.js";
import { kekRecord } from "../support/kek-record.js";
import { tokenDescription } from "../support/token-description.js";

const CKR_KEY_HANDLE_INVALID = 0x60;
const CKR_SESSION_HANDLE_INVALID = 0xb3;
const BLOCK = Buffer.alloc(16, 7);
const KEY_ID = makeKeyId(Buffer.of(0x0a), "c", BLOCK);
const KEK: Kek = {
  record: kekRecord("kms-kek", KEY_ID),
  aes: Buffer.of(5, 0, 0, 0, 0, 0, 0, 0),
  discovered: { kwp: { ckm: 0x210b, by: "C_WrapKey" } },
  checkedAt: 0,
};

/** A session on a token whose only key computes this block; further blocks belong to the next calls. */
function sessionOn(...blocks: readonly (Buffer | number)[]): TokenSession {
  let calls = 0;
  const lib = {
    C_OpenSession: () => Buffer.of(1),
    C_CloseSession: () => undefined,
    C_EncryptInit: () => undefined,
    C_Encrypt: () => {
      const block = blocks[Math.min(calls++, blocks.length - 1)];
      if (Buffer.isBuffer(block)) return block;
      throw Object.assign(new Error("refused"), { code: block });
    },
  } as unknown as PKCS11;
  return new TokenSession(lib, Buffer.of(0));
}

it("a handle that denotes the KEK is taken over with what has been discovered", () => {
  const taken = fromShared(sessionOn(BLOCK), structuredClone(toShared(KEK)));
  expect(taken).toEqual(KEK);
});

it("a handle that denotes another key is not taken over", () => {
  expect(fromShared(sessionOn(Buffer.alloc(16, 8)), toShared(KEK))).toBeUndefined();
});

it("a handle that the session does not know is not taken over", () => {
  expect(fromShared(sessionOn(CKR_KEY_HANDLE_INVALID), toShared(KEK))).toBeUndefined();
});

it("a handle that has just failed is not tried again", () => {
  const failed = [Buffer.from(KEK.aes ?? [])];
  expect(fromShared(sessionOn(BLOCK), toShared(KEK), failed)).toBeUndefined();
});

it("a refusal that one lane met is not passed on", () => {
  expect(toShared({ ...KEK, discovered: { gcm: null } }).discovered).toEqual({});
});

it("a KEK without a fingerprint is not taken over", () => {
  const named = { ...KEK, record: kekRecord("kms-kek", "0a.n") };
  expect(fromShared(sessionOn(BLOCK), toShared(named))).toBeUndefined();
});

/** Uses the KEK on a session that the token has ended once. */
function useAfterLoss(session: TokenSession, token: SlotToken): { readonly used: () => string } {
  session.attempt("any call", () => {
    throw Object.assign(new Error("ended"), { code: CKR_SESSION_HANDLE_INVALID });
  });
  const found = { ...KEK, aes: Buffer.of(6, 0, 0, 0, 0, 0, 0, 0), checkedAt: 1 };
  const keyring = { known: () => ({ ...KEK }), find: () => found, share: () => undefined };
  const use = new KekUse(session, keyring as unknown as LaneKeyring, token);
  return { used: () => use.withKek(KEY_ID, ({ aes }) => (aes ?? Buffer.alloc(0)).toString("hex")) };
}

const SAME: SlotToken = { atOpening: tokenDescription({}), now: () => tokenDescription({}) };

it("a handle that still denotes the KEK after a lost session is used further", () => {
  expect(useAfterLoss(sessionOn(BLOCK), SAME).used()).toMatch(/^05/);
});

it("a KEK whose handle denotes another key after a lost session is searched for again", () => {
  expect(useAfterLoss(sessionOn(Buffer.alloc(16, 8)), SAME).used()).toMatch(/^06/);
});

it("another token in the slot fails the lane, so that the token host is replaced", () => {
  const other: SlotToken = { ...SAME, now: () => ({ ...tokenDescription({ serial: "another" }) }) };
  expect(useAfterLoss(sessionOn(BLOCK), other).used).toThrow(/another token is in the slot/);
});

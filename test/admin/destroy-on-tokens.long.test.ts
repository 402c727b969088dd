// Destroying a KEK on a token that is slow, loses replies or reports false results: what is left untouched after a
// deadline, and that the reported result is what a library loaded afterwards shows.

import { describe, expect, it } from "vitest";

import { destroyAndConfirm, destroyOn } from "../../src/admin/destroy-on-tokens.js";
import { KmsError } from "../../src/errors.js";
import type { DestroyWindow } from "../../src/hsm/token-hsm.js";
import type { KekRecord } from "../../src/hsm/port.js";
import { useFaultyToken } from "../support/faulty-token.js";
import { Pkcs11Client } from "../support/pkcs11-client.js";
import { pkcs11Tool } from "../support/softhsm.js";
import type { OpenedToken } from "../support/token-hsm.js";

const token = useFaultyToken();
/** Limits for tests without hangs. */
const PATIENT = { requestTimeoutMs: 20_000, startTimeoutMs: 60_000 };
const SECOND_MS = 1_000;
/** The token computes no fingerprint of an AES key. */
const NO_FINGERPRINT = "decrypt-only 0x1081,0x1082,0x1087";
let made = 0;

const until = (ms: number): DestroyWindow => ({
  begunBy: Date.now() + ms,
  endedBy: Date.now() + ms + 60 * SECOND_MS,
});
const messageOf = (work: Promise<unknown>): Promise<string> =>
  work.then(String, (error: unknown) => KmsError.from(error).message);

/** Makes another KEK. */
async function makeKek({ hsm }: OpenedToken, kind: "aes" | "aes+hmac" = "aes"): Promise<KekRecord> {
  const seconds = String(++made).padStart(2, "0");
  const ckaId = seconds.repeat(16);
  return hsm.generate({ label: `kms-kek@202501010000${seconds}Z`, ckaId, kind });
}

/** Returns whether a process that loads the library now finds the KEK. */
const isThere = ({ label }: KekRecord): boolean =>
  pkcs11Tool(token.fault, "--list-objects", "--type", "secrkey").includes(label);

/** Makes a KEK and copies it in another process, which gives two objects with one key_id. */
async function makeTwins(label: string): Promise<void> {
  const child = new Pkcs11Client(token.fault);
  await child.open();
  await child.run(({ p11, module, state }, name) => {
    const object = state.makeKey({ [p11.CKA_LABEL]: name, [p11.CKA_ID]: Buffer.alloc(16, 0xee) });
    module.C_CopyObject(state.session, object, [{ type: p11.CKA_TOKEN, value: true }]);
  }, label);
  await child.kill();
}

describe("destroying a KEK on tokens", () => {
  it("destroyAndConfirm destroys all objects of a key_id, even those the library does not show", async () => {
    for (const habit of [[], ["store-at-load"]]) {
      token.fault.set(...habit);
      const opened = await token.start(PATIENT);
      const label = `kms-kek@2024010100000${habit.length}Z`;
      await makeTwins(label);
      const twins = (await opened.hsm.listKeksReloaded()).filter((record) => record.label === label);
      expect(new Set(twins.map(({ keyId }) => keyId)).size).toBe(1);
      expect(twins).toHaveLength(2);
      const [kek] = twins as [KekRecord];
      const { hsm } = token.open(PATIENT);
      expect(await destroyAndConfirm(hsm, kek)).toBe("destroyed");
      expect(isThere(kek)).toBe(false);
      expect(await destroyAndConfirm(hsm, kek)).toBe("absent");
      await hsm.stop(200);
    }
  });

  it("destroyAndConfirm finds a KEK after a reload if the first library does not know it", async () => {
    token.fault.set("store-at-load");
    const [early, later] = [await token.start(PATIENT), token.open(PATIENT)];
    const kek = await makeKek(later);
    expect(await early.hsm.destroy(kek)).toBe(0);
    expect(await destroyAndConfirm(early.hsm, kek)).toBe("destroyed");
    expect(isThere(kek)).toBe(false);
  });

  it("destroyAndConfirm spares the KEK if the deadline passes in the search or a new session", async () => {
    const opened = await token.start({ requestTimeoutMs: 1_000 });
    const kek = await makeKek(opened);
    const before = token.fault.calls("C_DestroyObject");
    token.fault.set("C_FindObjectsInit sleep 600");
    expect(await messageOf(opened.hsm.destroy(kek, until(500)))).toMatch(/too slow.*it was left as it is/);
    expect(token.fault.calls("C_DestroyObject")).toBe(before);
    token.fault.set("C_DestroyObject rv 0xB3 count=1", "C_OpenSession sleep 1500");
    expect(await messageOf(opened.hsm.destroy(kek, until(1_000)))).toMatch(/too slow/);
    expect(token.fault.calls("C_DestroyObject")).toBe(before + 1);
    token.fault.clear();
    expect(isThere(kek)).toBe(true);
    expect(await opened.hsm.destroy(kek, until(60 * SECOND_MS))).toBe(1);
  });

  it("destroyAndConfirm abandons a call that does not end in time, and its token host", async () => {
    const opened = await token.share();
    const kek = await makeKek(opened);
    token.fault.set("C_DestroyObject hang");
    const window = { begunBy: Date.now() + SECOND_MS, endedBy: Date.now() + SECOND_MS };
    expect(await messageOf(destroyAndConfirm(opened.hsm, kek, window))).toMatch(
      /ended \(hang\).*the token still holds .* may still carry out/,
    );
    expect(opened.ended).toContain("hang");
    token.fault.clear();
    expect(isThere(kek)).toBe(true);
  });

  it.each([
    ["the host crashes after the call", "C_DestroyObject abort after"],
    ["the call reports an error", "C_DestroyObject rv 0x30 after"],
  ])("destroyAndConfirm confirms that the KEK is gone although %s", async (_what, rule) => {
    const opened = await token.share();
    const kek = await makeKek(opened);
    token.fault.set(rule);
    const records = [kek];
    const one = { name: "one", hsm: opened.hsm, records, failure: undefined, openMs: 0 };
    expect(await destroyOn([one], kek)).toEqual({
      tokens: [{ token: "one", outcome: "done", error: null }],
      failure: undefined,
    });
    token.fault.clear();
    expect(isThere(kek)).toBe(false);
  });

  it.each([
    ["failed", "crashes before the call", ["C_DestroyObject abort"], /still holds .* may still carry out/],
    [
      "failed",
      "accepts the call but does nothing",
      ["C_DestroyObject rv 0"],
      /accepted C_DestroyObject but still holds/,
    ],
    [
      "unknown",
      "cannot be read again",
      ["C_DestroyObject abort", "C_Initialize rv 0x30"],
      /cannot be read again .*; whether it still holds .* is not known/,
    ],
  ])("destroyAndConfirm reports the outcome %s if the token %s", async (outcome, _what, rules, error) => {
    const opened = await token.share();
    const kek = await makeKek(opened);
    token.fault.set(...rules);
    const one = { name: "one", hsm: opened.hsm, records: [kek], failure: undefined, openMs: 0 };
    const changes = await destroyOn([one], kek);
    expect(changes.tokens).toEqual([
      { token: "one", outcome, error: expect.stringMatching(error) as string },
    ]);
    expect(changes.failure).toBeInstanceOf(KmsError);
  });

  it("destroyAndConfirm reports a KEK as present if its key_id has changed since it was read", async () => {
    const opened = await token.share();
    const kek = await makeKek(opened);
    token.fault.set(NO_FINGERPRINT);
    expect(await messageOf(destroyAndConfirm(opened.hsm, kek))).toMatch(/now shows .*\.n under the label/);
    token.fault.clear();
    expect(isThere(kek)).toBe(true);
  });

  it("destroyAndConfirm destroys none of several keys that no fingerprint distinguishes", async () => {
    const opened = await token.share();
    const ckaId = "dd".repeat(16);
    const labels = ["kms-kek@20230101T000000Z", "kms-kek@20230201T000000Z"];
    const keks: KekRecord[] = [];
    for (const label of labels) keks.push(await opened.hsm.generate({ label, ckaId, kind: "aes" }));
    const [first] = keks as [KekRecord];
    token.fault.set(NO_FINGERPRINT);
    const nameless = { ...first, keyId: `${ckaId}.n`, aliases: [] };
    expect(await messageOf(destroyAndConfirm(opened.hsm, nameless))).toMatch(/holds 2 keys/);
    token.fault.clear();
    expect(keks.map(isThere)).toEqual([true, true]);
  });

  it("destroyAndConfirm reports a KEK of two objects as present if one of them is", async () => {
    const opened = await token.share();
    const kek = await makeKek(opened, "aes+hmac");
    token.fault.set("C_DestroyObject rv 0x54 skip=1");
    expect(await messageOf(destroyAndConfirm(opened.hsm, kek))).toMatch(
      /C_DestroyObject.*the token still holds/,
    );
    token.fault.clear();
    expect(await destroyAndConfirm(opened.hsm, kek)).toBe("destroyed");
    expect(isThere(kek)).toBe(false);
  });
});

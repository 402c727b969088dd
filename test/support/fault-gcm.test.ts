// AES-GCM with an IV that the token generates, in each of the fault module's modes.

import { describe, expect, test } from "vitest";

import { useFaultModule } from "./fault-fixture.js";
import type { Pkcs11Client, Pkcs11Scope } from "./pkcs11-client.js";

const { fault, client } = useFaultModule();

const GCM = 0x1087;
const CALLER_IV = "0102030405060708090a0b0c";
const TEXT = "thirty-two bytes of a DEK seed..";

interface Sealed {
  readonly iv: string;
  readonly out: string;
}

const makeKey = ({ state }: Pkcs11Scope): void => void (state.key = state.makeKey({ 1: false }));

/** Encrypts TEXT. `iv` is the content of the caller's buffer after C_EncryptInit and after C_Encrypt. */
const encrypt = (hsm: Pkcs11Client, mechanism = GCM): Promise<Sealed & { ivAfterInit: string }> =>
  hsm.run(
    ({ module, state }, { text, callerIv, mechanism }) => {
      const iv = Buffer.from(callerIv, "hex");
      module.C_EncryptInit(state.session, state.gcm(iv, "aad", mechanism), state.key);
      const ivAfterInit = iv.toString("hex");
      const out = module.C_Encrypt(state.session, Buffer.from(text), Buffer.alloc(128)).toString("hex");
      return { ivAfterInit, iv: iv.toString("hex"), out };
    },
    { text: TEXT, callerIv: CALLER_IV, mechanism },
  );

const decrypt = (hsm: Pkcs11Client, { iv, out }: Sealed, mechanism = GCM): Promise<string> =>
  hsm.run(
    ({ state }, { iv, out, mechanism }) =>
      state.decrypt(state.key, Buffer.from(iv, "hex"), Buffer.from(out, "hex"), mechanism).toString(),
    { iv, out, mechanism },
  );

const flip = ({ iv, out }: Sealed, at: number): Sealed => {
  const bytes = Buffer.from(out, "hex");
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  return { iv, out: bytes.toString("hex") };
};

const bytes = (hex: string): number => hex.length / 2;
const PLAIN = TEXT.length;

describe("gcm-iv", () => {
  test("caller: the caller's IV is used and kept", async () => {
    const hsm = await client();
    await hsm.run(makeKey);
    fault().set("gcm-iv caller");
    const [one, two] = [await encrypt(hsm), await encrypt(hsm)];
    expect(one).toEqual(two);
    expect(one.iv).toBe(CALLER_IV);
    expect(bytes(one.out)).toBe(PLAIN + 16);
    expect(await decrypt(hsm, one)).toBe(TEXT);
  });

  test.each([
    ["written", true],
    ["written-late", false],
  ])("%s: the token's IV replaces the caller's in its buffer", async (mode, atInit) => {
    const hsm = await client();
    await hsm.run(makeKey);
    fault().set(`gcm-iv ${mode}`);
    const [one, two] = [await encrypt(hsm), await encrypt(hsm)];
    expect(one.iv).not.toBe(CALLER_IV);
    expect(one.iv).not.toBe(two.iv);
    expect(one.ivAfterInit === one.iv).toBe(atInit);
    if (!atInit) expect(one.ivAfterInit).toBe(CALLER_IV);
    expect(bytes(one.out)).toBe(PLAIN + 16);
    expect(await decrypt(hsm, one)).toBe(TEXT);
    await expect(decrypt(hsm, { ...one, iv: CALLER_IV })).rejects.toThrow();
  });

  test.each([
    ["appended12", 12],
    ["appended16", 16],
  ])("%s: ciphertext, tag, IV; decrypted with the IV as a parameter", async (mode, length) => {
    const hsm = await client();
    await hsm.run(makeKey);
    fault().set(`gcm-iv ${mode}`);
    const [one, two] = [await encrypt(hsm), await encrypt(hsm)];
    expect(one.iv).toBe(CALLER_IV);
    expect(one.out).not.toBe(two.out);
    expect(bytes(one.out)).toBe(PLAIN + 16 + length);
    const parts = { iv: one.out.slice(-2 * length), out: one.out.slice(0, -2 * length) };
    expect(await decrypt(hsm, parts)).toBe(TEXT);
    await expect(decrypt(hsm, one)).rejects.toThrow();
  });

  test("prepended: IV, ciphertext, tag; decrypted with the IV as a parameter", async () => {
    const hsm = await client();
    await hsm.run(makeKey);
    fault().set("gcm-iv prepended");
    const { out } = await encrypt(hsm);
    expect(bytes(out)).toBe(PLAIN + 16 + 12);
    expect(await decrypt(hsm, { iv: out.slice(0, 24), out: out.slice(24) })).toBe(TEXT);
  });

  test.each(["appended12-own", "appended16-own", "prepended-own"])(
    "%s: decrypts its own format",
    async (mode) => {
      const hsm = await client();
      await hsm.run(makeKey);
      fault().set(`gcm-iv ${mode}`);
      const sealed = await encrypt(hsm);
      expect(await decrypt(hsm, sealed)).toBe(TEXT);
      for (const at of [0, 20, bytes(sealed.out) - 1]) {
        await expect(decrypt(hsm, flip(sealed, at))).rejects.toThrow();
      }
      await expect(decrypt(hsm, { ...sealed, out: "00".repeat(9) })).rejects.toMatchObject({ code: 0x40 });
      expect(await decrypt(hsm, sealed)).toBe(TEXT);
    },
  );

  test("a buffer too small is said with the length needed, and the operation goes on", async () => {
    const hsm = await client();
    await hsm.run(makeKey);
    fault().set("gcm-iv appended16-own");
    const outcome = await hsm.run(({ module, state }) => {
      module.C_EncryptInit(state.session, state.gcm(Buffer.alloc(12)), state.key);
      let code = 0;
      try {
        module.C_Encrypt(state.session, Buffer.from("data"), Buffer.alloc(20));
      } catch (error) {
        code = (error as { code: number }).code;
      }
      return [code, module.C_Encrypt(state.session, Buffer.from("data"), Buffer.alloc(36)).length];
    });
    expect(outcome).toEqual([0x150, 36]);
  });

  test("gcm-mechanism offers GCM under a vendor's number only", async () => {
    const hsm = await client();
    await hsm.run(makeKey);
    fault().set("gcm-mechanism 0x80001087", "gcm-iv prepended-own");
    const listed = await hsm.run(({ module, state }) => module.C_GetMechanismList(state.slot));
    expect(listed).toContain(0x80001087);
    expect(listed).not.toContain(GCM);
    await expect(encrypt(hsm)).rejects.toMatchObject({ code: 0x70 });
    expect(await decrypt(hsm, await encrypt(hsm, 0x80001087), 0x80001087)).toBe(TEXT);
  });
});

// Mechanism rsa-oaep on tokens that offer RSA only: the signature is verified before the token is asked to decrypt, and
// both key pairs are named, checked, relabelled and destroyed as one KEK.

import {
  constants,
  createPublicKey,
  generateKeyPairSync,
  publicEncrypt,
  randomBytes,
  sign,
} from "node:crypto";

import { beforeAll, describe, expect, it } from "vitest";

import { PATIENT_CALLER } from "../../../src/hsm/port.js";
import { useOpenedTokens } from "../../support/opened-tokens.js";
import { Pkcs11Client } from "../../support/pkcs11-client.js";
import { useToken } from "../../support/token-fixture.js";
import type { OpenedToken } from "../../support/token-hsm.js";

/** RSA key pairs, OAEP, PSS of a text and of a digest. */
const RSA_ONLY = "only-mechanisms 0x0,0x9,0xD,0x43";
/** SoftHSM 2.6 supports SHA-1 only. */
const SHA1 = 9;
const LABEL = "rsa@20260101T000000Z";
const AAD = Buffer.from("version, mechanism, key_id");

const token = useToken({ faults: [RSA_ONLY] });
const openToken = useOpenedTokens();
let keyId: string;

beforeAll(async () => {
  const made = await open().generate({ label: LABEL, ckaId: "0a".repeat(16), kind: "auto" });
  expect(made).toMatchObject({ kind: "rsa", label: LABEL, unprotected: [], remarks: [], aliases: [] });
  keyId = made.keyId;
});

const open = (objectName = "rsa"): OpenedToken["hsm"] => openToken(token.fault, { objectName }).hsm;

const call = (data: Uint8Array, more = {}) => ({ keyId, mechanism: SHA1, aad: AAD, data, ...more });

interface SeenKey {
  readonly label: string;
  readonly isPrivate: boolean;
  readonly modulus: string;
  readonly exponent: string;
  readonly decrypts: boolean;
}

/** Returns all RSA key objects on the token with this label. */
async function objectsNamed(label: string): Promise<SeenKey[]> {
  const client = new Pkcs11Client(token.token);
  await client.open();
  const seen = await client.run(({ p11, module, state }, wanted) => {
    const found: SeenKey[] = [];
    for (const type of [p11.CKO_PRIVATE_KEY, p11.CKO_PUBLIC_KEY]) {
      module.C_FindObjectsInit(state.session, [
        { type: p11.CKA_CLASS, value: type },
        { type: p11.CKA_LABEL, value: wanted },
      ]);
      const objects = module.C_FindObjects(state.session, 100);
      module.C_FindObjectsFinal(state.session);
      for (const object of objects) {
        const isPrivate = type === p11.CKO_PRIVATE_KEY;
        const use = isPrivate ? p11.CKA_DECRYPT : p11.CKA_ENCRYPT;
        const types = [p11.CKA_MODULUS, p11.CKA_PUBLIC_EXPONENT, use];
        const values = types.map((one) => module.C_GetAttributeValue(state.session, object, [{ type: one }]));
        const [modulus, exponent, decrypts] = values.map(([one]) => (one?.value as Buffer).toString("hex"));
        found.push({
          label: wanted,
          isPrivate,
          modulus: modulus ?? "",
          exponent: exponent ?? "",
          decrypts: decrypts === "01",
        });
      }
    }
    return found;
  }, label);
  await client.exit();
  return seen;
}

it("auto makes two RSA key pairs of 3072 bits on a token that has no symmetric mechanism", async () => {
  const objects = await objectsNamed(LABEL);
  expect(objects).toHaveLength(4);
  expect(new Set(objects.map(({ modulus }) => modulus)).size).toBe(2);
  expect(objects.every(({ modulus }) => modulus.length === 768)).toBe(true);
  expect(keyId).toMatch(/^(0a){16}\.r[0-9a-f]{32}$/);
});

it("the probe reports SHA-1 if the token refuses SHA-256", async () => {
  const results = await open().probe(keyId, "auto");
  expect(results.filter(({ works }) => works)).toMatchObject([
    { mechanism: "rsa-oaep-sha1", detail: expect.stringContaining("OAEP uses SHA-1") as string },
  ]);
});

it("a ciphertext of somebody who has both public keys is refused before the token is asked", async () => {
  const hsm = open();
  await hsm.decrypt(call(await hsm.encrypt(call(randomBytes(32)), PATIENT_CALLER)), PATIENT_CALLER);
  const decrypting = (await objectsNamed(LABEL)).find((key) => !key.isPrivate && key.decrypts);
  const base64 = (hex = ""): string => Buffer.from(hex, "hex").toString("base64url");
  const jwk = { kty: "RSA", n: base64(decrypting?.modulus), e: base64(decrypting?.exponent) };
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  const key = createPublicKey({ key: jwk, format: "jwk" });
  const planted = publicEncrypt({ key, padding, oaepHash: "sha1" }, randomBytes(32));
  const own = generateKeyPairSync("rsa", { modulusLength: 3072 });
  const forged = sign("sha256", planted, { key: own.privateKey, padding: constants.RSA_PKCS1_PSS_PADDING });
  const genuine = await hsm.encrypt(call(randomBytes(32)), PATIENT_CALLER);
  const before = token.fault.calls("C_DecryptInit");
  for (const signature of [forged, randomBytes(384), Buffer.alloc(384), genuine.subarray(384)]) {
    const asking = hsm.decrypt(call(Buffer.concat([planted, signature])), PATIENT_CALLER);
    await expect(asking).rejects.toMatchObject({ code: "NOT_AUTHENTIC" });
  }
  const elsewhere = hsm.decrypt(call(genuine, { aad: Buffer.from("another key_id") }), PATIENT_CALLER);
  await expect(elsewhere).rejects.toMatchObject({ code: "NOT_AUTHENTIC" });
  const otherMechanism = hsm.decrypt(call(genuine, { mechanism: 8 }), PATIENT_CALLER);
  await expect(otherMechanism).rejects.toMatchObject({ code: "NOT_AUTHENTIC" });
  expect(token.fault.calls("C_DecryptInit")).toBe(before);
});

it("a plaintext that is too long for the key is refused as input", async () => {
  const hsm = open();
  expect(await hsm.encrypt(call(randomBytes(342)), PATIENT_CALLER)).toHaveLength(768);
  const asking = hsm.encrypt(call(randomBytes(343)), PATIENT_CALLER);
  await expect(asking).rejects.toMatchObject({ code: "INPUT_INVALID" });
});

it("an altered signature or plaintext is corrected by a second attempt", async () => {
  const hsm = open();
  const text = randomBytes(32);
  const checked = { check: "digest" } as const;
  for (const line of ["C_Sign alter 9 count=1", "C_Decrypt alter 9 count=1"]) {
    token.fault.set(RSA_ONLY, line);
    const body = await hsm.encrypt(call(text, checked), PATIENT_CALLER);
    token.fault.set(RSA_ONLY, line);
    expect((await hsm.decrypt(call(body, checked), PATIENT_CALLER)).equals(text)).toBe(true);
  }
});

it("a KEK works on a token with short CKA_IDs that refuses 3072 bits and signs digests only", async () => {
  token.fault.set("only-mechanisms 0x0,0x9,0xD", "C_GenerateKeyPair rv 0x06 count=8", "id-limit 2");
  const hsm = open("small");
  const label = "small@20260101T000000Z";
  const made = await hsm.generate({ label, ckaId: "0b".repeat(16), kind: "auto", mechanism: "rsa-oaep" });
  expect(made).toMatchObject({ kind: "rsa", unprotected: [] });
  expect(made.ckaId).toHaveLength(4);
  const reader = open("small");
  const one = { keyId: made.keyId, mechanism: SHA1, aad: AAD, data: randomBytes(32) };
  const body = await reader.encrypt(one, PATIENT_CALLER);
  expect(body).toHaveLength(256 + 384);
  expect(await reader.decrypt({ ...one, data: body }, PATIENT_CALLER)).toHaveLength(32);
  expect((await reader.listKeks()).map((kek) => kek.keyId)).toEqual([made.keyId]);
  expect(await objectsNamed(label)).toHaveLength(4);
  expect(await hsm.destroy(made)).toBe(2);
  expect(await objectsNamed(label)).toEqual([]);
});

it.each(["auto", "rsa-oaep"] as const)(
  "a token may take long to make RSA pairs for mechanism %s",
  async (mechanism) => {
    const { hsm } = openToken(token.fault, { objectName: "slow", requestTimeoutMs: 1_000 });
    await hsm.listKeks();
    // Longer in all than any other control call may take: five request timeouts.
    token.fault.set(RSA_ONLY, "C_GenerateKeyPair sleep 2800");
    const label = `slow@2026010${mechanism.length}T000000Z`;
    const made = await hsm.generate({ label, ckaId: "0d".repeat(16), kind: "auto", mechanism });
    expect(made.kind).toBe("rsa");
    expect(await hsm.destroy(made)).toBe(2);
  },
);

it("nothing remains when the token fails to make the second pair, or does not sign", async () => {
  const hsm = open("half");
  await hsm.listKeks();
  const request = { label: "half@20260101T000000Z", ckaId: "0d".repeat(16), kind: "auto" } as const;
  for (const [line, code] of [
    ["C_GenerateKeyPair rv 0x54 skip=1", "MECHANISM_UNSUPPORTED"],
    ["C_SignInit rv 0x70", "MECHANISM_UNSUPPORTED"],
  ] as const) {
    token.fault.set(RSA_ONLY, line);
    await expect(hsm.generate({ ...request, mechanism: "rsa-oaep" })).rejects.toMatchObject({ code });
    token.fault.set(RSA_ONLY);
    expect(await objectsNamed(request.label)).toEqual([]);
  }
});

describe("key pairs that another tool made", () => {
  /** Makes a pair whose private key has these attributes. */
  async function makePairs(label: string, all: readonly Record<string, unknown>[]): Promise<void> {
    const client = new Pkcs11Client(token.token);
    await client.open();
    await client.run(
      ({ p11, module, state }, [name, pairs]) => {
        for (const { bits = 2048, id = "01", ...flags } of pairs as { bits?: number; id?: string }[]) {
          const common = [
            { type: p11.CKA_TOKEN, value: true },
            { type: p11.CKA_LABEL, value: name },
            { type: p11.CKA_ID, value: Buffer.from(id, "hex") },
          ];
          const uses = {
            CKA_PRIVATE: true,
            CKA_SENSITIVE: true,
            CKA_EXTRACTABLE: false,
            CKA_UNWRAP: false,
            ...flags,
          };
          const extra = Object.entries(uses).map(([key, value]) => ({
            type: (p11 as unknown as Record<string, number>)[key] ?? 0,
            value: value,
          }));
          module.C_GenerateKeyPair(
            state.session,
            { mechanism: p11.CKM_RSA_PKCS_KEY_PAIR_GEN },
            [
              ...common,
              { type: p11.CKA_MODULUS_BITS, value: bits },
              { type: p11.CKA_PUBLIC_EXPONENT, value: Buffer.of(1, 0, 1) },
            ],
            [...common, ...extra],
          );
        }
      },
      [label, all] as const,
    );
    await client.exit();
  }

  const DECRYPTS = { CKA_DECRYPT: true, CKA_SIGN: false, CKA_SIGN_RECOVER: false };
  const SIGNS = { CKA_DECRYPT: false, CKA_SIGN: true, CKA_SIGN_RECOVER: false };

  it("two pairs with one CKA_ID are one KEK, the same for every reader, and work with 2048 bits", async () => {
    await makePairs("theirs", [SIGNS, DECRYPTS]);
    const [found, ...more] = await open("theirs").listKeks();
    expect(more).toEqual([]);
    expect(found).toMatchObject({ kind: "rsa", ckaId: "01", unprotected: [], remarks: [] });
    const hsm = open("theirs");
    const one = { keyId: found?.keyId ?? "", mechanism: SHA1, aad: AAD };
    const body = await hsm.encrypt({ ...one, data: Buffer.from("seed") }, PATIENT_CALLER);
    expect(body).toHaveLength(512);
    expect((await hsm.decrypt({ ...one, data: body }, PATIENT_CALLER)).toString()).toBe("seed");
    await makePairs("theirs", [{ ...SIGNS, CKA_PRIVATE: false }]);
    const kept = (await open("theirs").listKeks()).filter(({ unprotected }) => unprotected.length === 0);
    expect(kept, "beside a key that anybody may have made").toEqual([found]);
  });

  it("both pairs get another label and keep their key_id", async () => {
    await makePairs("moved", [DECRYPTS, SIGNS]);
    const hsm = open("moved");
    const [found] = await hsm.listKeks();
    const keyId = found?.keyId ?? "";
    const label = "moved@20260101T000000Z";
    expect(await hsm.relabel(keyId, label)).toMatchObject({ keyId, label });
    expect(await objectsNamed("moved")).toEqual([]);
    expect(await objectsNamed(label)).toHaveLength(4);
    expect(await open("moved").listKeks()).toMatchObject([{ keyId, label }]);
  });

  it("two pairs that both decrypt and sign have fixed roles and remarks", async () => {
    const both = { CKA_DECRYPT: true, CKA_SIGN: true, CKA_SIGN_RECOVER: false };
    await makePairs("both", [
      { ...both, id: "02" },
      { ...both, id: "01" },
    ]);
    const found = await open("both").listKeks();
    expect(found).toMatchObject([{ ckaId: "01", unprotected: [] }]);
    expect(found[0]?.remarks.join("\n")).toMatch(
      /^CKA_SIGN is true: a KEK does not need it.*\nCKA_DECRYPT is true: a KEK does not need it.*$/,
    );
    expect((await open("both").probe(found[0]?.keyId ?? "", "rsa-oaep"))[0]).toMatchObject({ works: true });
  });

  it.each([
    ["extract", [{ ...DECRYPTS, CKA_EXTRACTABLE: true }, SIGNS], "CKA_EXTRACTABLE is true"],
    ["clear", [DECRYPTS, { ...SIGNS, CKA_SENSITIVE: false }], "CKA_SENSITIVE is false"],
    ["short", [DECRYPTS, { ...SIGNS, bits: 1024 }], "an RSA key has 1024 bits, fewer than 2048"],
    ["nosign", [DECRYPTS], "the RSA key that signs is missing"],
    ["nodecrypt", [SIGNS], "the RSA key that decrypts is missing"],
  ] as const)("pairs that are not protected or not whole are refused: %s", async (label, pairs, reason) => {
    await makePairs(label, pairs);
    expect(await open(label).listKeks()).toMatchObject([{ kind: "rsa", unprotected: [reason] }]);
  });
});

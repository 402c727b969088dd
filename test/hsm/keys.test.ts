// How keys on the token are named and judged: the key_id follows the key's value, not its label, and neither a restart
// nor a failing token changes it.

import { randomBytes } from "node:crypto";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import type { KekKind, MechanismChoice } from "../../src/hsm/mechanisms.js";
import { PATIENT_CALLER, type KekRecord } from "../../src/hsm/port.js";
import { createNss, type Nss } from "../support/nss.js";
import { useOpenedTokens } from "../support/opened-tokens.js";
import { Pkcs11Client } from "../support/pkcs11-client.js";
import { useToken } from "../support/token-fixture.js";
import type { TestToken } from "../support/token.js";
import type { OpenedToken, OpenOptions } from "../support/token-hsm.js";
import { waitFor } from "../support/wait.js";

const LIMIT = { timeoutMs: 20_000 };
const softHsm = useToken({ faults: [] });
const openToken = useOpenedTokens();
let nss: Nss;

beforeAll(() => {
  nss = createNss();
});

afterAll(() => {
  nss.remove();
});

const open = (token: TestToken, objectName: string, options: OpenOptions = {}): OpenedToken["hsm"] =>
  openToken(token, { objectName, ...options }).hsm;

const keyIds = (records: readonly KekRecord[]): string[] => records.map(({ keyId }) => keyId).sort();

/** Makes keys as another tool would, with these attributes in addition to the usual ones. */
async function makeKeys(token: TestToken, all: readonly Record<string, string | boolean>[]): Promise<void> {
  const client = new Pkcs11Client(token);
  await client.open();
  await client.run(({ p11, state }, keys) => {
    for (const { label, id, ...flags } of keys) {
      const attributes: Record<number, unknown> = { [p11.CKA_LABEL]: label };
      if (typeof id === "string") attributes[p11.CKA_ID] = Buffer.from(id, "hex");
      for (const [name, value] of Object.entries(flags)) {
        attributes[(p11 as unknown as Record<string, number>)[name] ?? 0] = value;
      }
      state.makeKey(attributes);
    }
  }, all);
  await client.exit();
}

describe.each([
  ["SoftHSM", () => softHsm.token as TestToken],
  ["NSS softokn", () => nss as TestToken],
])("on %s", (_name, token) => {
  it("keys without a CKA_ID, with a long one, and with another label are distinguished", async () => {
    await makeKeys(token(), [
      { label: "plain" },
      { label: "plain@20260101T000000Z", id: "ab".repeat(24) },
      { label: "plainer", id: "01" },
    ]);
    const found = await open(token(), "plain").listKeks();
    const names = keyIds(found).map((keyId) => keyId.split(".")[0]);
    expect(names).toHaveLength(2);
    expect(names).toContainEqual(expect.stringMatching(/^h[0-9a-f]{32}$/));
  });
});

// NSS softokn lets a key replace another one of the same CKA_ID.
it("two keys that share label and CKA_ID have different key_ids, the same after a restart", async () => {
  const twin = { label: "twin", id: "77" };
  await makeKeys(softHsm.token, [twin, twin]);
  const found = await open(softHsm.token, "twin").listKeks();
  expect(found).toHaveLength(2);
  expect(new Set(keyIds(found)).size).toBe(2);
  expect(found.every(({ keyId }) => /^77\.[cg][0-9a-f]{32}$/.test(keyId))).toBe(true);
  expect(keyIds(await open(softHsm.token, "twin").listKeks())).toEqual(keyIds(found));
});

it("copies of a key under other labels are all listed, each with its label", async () => {
  const label = "copy@20260101T000000Z";
  await makeKeys(softHsm.token, [{ label, id: "08" }]);
  const client = new Pkcs11Client(softHsm.token);
  await client.open();
  await client.run(({ p11, module, state }, from) => {
    const { session } = state;
    module.C_FindObjectsInit(session, [{ type: p11.CKA_LABEL, value: from }]);
    const [key] = module.C_FindObjects(session, 1);
    module.C_FindObjectsFinal(session);
    for (const value of ["copy", "copy@20270101T000000Z"]) {
      if (key !== undefined) module.C_CopyObject(session, key, [{ type: p11.CKA_LABEL, value }]);
    }
  }, label);
  await client.exit();
  const found = await open(softHsm.token, "copy").listKeks();
  expect(new Set(keyIds(found)).size).toBe(1);
  expect(found.map((record) => record.label).sort()).toEqual(["copy", label, "copy@20270101T000000Z"]);
});

it("a label is listed without its control characters", async () => {
  await makeKeys(softHsm.token, [{ label: "odd@\u001b[2J\r\nok\u009b31m\u202e", id: "09" }]);
  expect(await open(softHsm.token, "odd").listKeks()).toMatchObject([{ label: "odd@?[2J??ok?31m?" }]);
});

it("a label or CKA_ID longer than a frame of the wire hides no other key", async () => {
  await makeKeys(softHsm.token, [
    { label: "huge@20260101T000000Z", id: "0a" },
    { label: `huge@${"x".repeat(1_200_000)}`, id: "0b" },
    { label: "huge@20250101T000000Z", id: "0c".repeat(600_000) },
  ]);
  const found = await open(softHsm.token, "huge").listKeks();
  expect(found.map(({ ckaId }) => ckaId.slice(0, 2)).sort()).toEqual(["0a", "0b", "0c"]);
  expect(JSON.stringify(found).length).toBeLessThan(3_000);
});

it("keys that are not protected are listed with the reasons", async () => {
  await makeKeys(softHsm.token, [
    { label: "bare@20260101T000000Z", id: "01", CKA_EXTRACTABLE: true },
    { label: "bare@20260102T000000Z", id: "02", CKA_SENSITIVE: false },
    { label: "bare@20260103T000000Z", id: "03", CKA_PRIVATE: false },
    { label: "bare@20260104T000000Z", id: "04" },
  ]);
  const found = await open(softHsm.token, "bare").listKeks();
  const why = Object.fromEntries(found.map(({ ckaId, unprotected }) => [ckaId, unprotected]));
  expect(why).toEqual({
    "01": ["CKA_EXTRACTABLE is true"],
    "02": ["CKA_SENSITIVE is false"],
    "03": ["CKA_PRIVATE is false"],
    "04": [],
  });
});

it("an attribute that the token does not support forbids nothing", async () => {
  softHsm.fault.set("no-attribute 0x163,0x162,0x103");
  const hsm = open(softHsm.fault, "quiet");
  const label = "quiet@20260101T000000Z";
  await makeKeys(softHsm.token, [{ label, id: "05" }]);
  expect(await hsm.listKeks()).toMatchObject([{ ckaId: "05", unprotected: [] }]);
});

it("a token that chooses short CKA_IDs gives each key its own", async () => {
  softHsm.fault.set("id-limit 2");
  const hsm = open(softHsm.fault, "short");
  const made: KekRecord[] = [];
  for (const day of ["01", "02", "03"]) {
    const request = { label: `short@202601${day}T000000Z`, ckaId: randomBytes(16).toString("hex") };
    made.push(await hsm.generate({ ...request, kind: "auto" }));
  }
  for (const { ckaId, keyId } of made) {
    expect(ckaId).toHaveLength(4);
    expect(keyId.startsWith(`${ckaId}.`)).toBe(true);
  }
  expect(keyIds(await open(softHsm.fault, "short").listKeks())).toEqual(keyIds(made));
});

describe("a key that is made for a mechanism", () => {
  const LABEL = "made@20260101T000000Z";

  // The RSA KEK takes longer to make: see test/token-host/mechanisms/.
  const KINDS: Readonly<Record<Exclude<MechanismChoice, "rsa-oaep">, KekKind>> = {
    "aes-gcm": "aes",
    "hmac-kdf": "hmac",
    "aes-kwp": "aes",
    "aes-cbc-hmac": "aes+hmac",
  };

  it.each(Object.entries(KINDS) as [keyof typeof KINDS, KekKind][])(
    "%s is of a kind that performs it: %s",
    async (mechanism, kind) => {
      const hsm = open(softHsm.fault, "made");
      const made = await hsm.generate({ label: LABEL, ckaId: "0a", kind: "auto", mechanism });
      expect(made).toMatchObject({ kind, label: LABEL, unprotected: [] });
      expect(await hsm.probe(made.keyId, mechanism)).toMatchObject([{ works: true }]);
      await hsm.destroy(made);
    },
  );

  it("a key is not made if the token does not perform its mechanism", async () => {
    softHsm.fault.set("refuse-mechanism 0x251");
    const hsm = open(softHsm.fault, "made");
    for (const mechanism of ["hmac-kdf", "aes-cbc-hmac"] as const) {
      const making = hsm.generate({ label: LABEL, ckaId: "0b", kind: "auto", mechanism });
      await expect(making).rejects.toMatchObject({
        code: "MECHANISM_UNSUPPORTED",
        message: expect.stringContaining(
          `${mechanism} does not work on token "${softHsm.token.label}"`,
        ) as string,
      });
    }
    expect(await hsm.listKeks()).toEqual([]);
  });

  it("a new key is destroyed if it does not perform what a session key performed", async () => {
    const hsm = open(softHsm.fault, "made");
    await hsm.listKeks();
    // Three HMACs of the session key: to encrypt, to decrypt, and to refuse a changed ciphertext.
    softHsm.fault.set("C_Sign rv 0x70 skip=3");
    const making = hsm.generate({ label: LABEL, ckaId: "0c", kind: "auto", mechanism: "hmac-kdf" });
    await expect(making).rejects.toMatchObject({
      code: "MECHANISM_UNSUPPORTED",
      message: expect.stringMatching(
        /token ".*", does not perform hmac-kdf (?!.*set another.*set).*the key was destroyed; set another/,
      ) as string,
    });
    softHsm.fault.clear();
    expect(await hsm.listKeks()).toEqual([]);
  });
});

describe("a failing token", () => {
  it("a token whose objects vanish during a reading is read again", async () => {
    const hsm = open(softHsm.fault, "vanish");
    const label = "vanish@20260101T000000Z";
    const { keyId } = await hsm.generate({ label, ckaId: "07", kind: "aes" });
    for (const calls of ["C_GetAttributeValue", "C_EncryptInit"]) {
      softHsm.fault.set(`${calls} rv 0x82 count=1`);
      expect(keyIds(await hsm.listKeks())).toEqual([keyId]);
    }
    softHsm.fault.set("C_GetAttributeValue rv 0x82");
    await expect(hsm.listKeks()).rejects.toMatchObject({ code: "KEY_MISSING" });
    softHsm.fault.clear();
  });

  // CKR_GENERAL_ERROR and CKR_FUNCTION_FAILED, which some tokens also return for mechanisms that they lack.
  it.each(["C_Encrypt rv 0x05 count=1", "C_EncryptInit rv 0x06 count=2", "C_Encrypt rv 0x05 p=0.1"])(
    "%s does not rename a key",
    async (line) => {
      const label = "firm@20260101T000000Z";
      const known = keyIds(await open(softHsm.fault, "firm").listKeks());
      const hsm = open(softHsm.fault, "firm");
      if (known.length === 0) known.push((await hsm.generate({ label, ckaId: "06", kind: "aes" })).keyId);
      for (let reading = 0; reading < 12; reading++) {
        softHsm.fault.set(line);
        const found = await hsm.listKeks().catch(() => undefined);
        if (found !== undefined) expect(keyIds(found)).toEqual(known);
      }
      softHsm.fault.clear();
      const request = { keyId: known[0] ?? "", mechanism: 1, aad: Buffer.alloc(1), data: Buffer.alloc(32) };
      await waitFor(() => hsm.encrypt(request, PATIENT_CALLER), { what: "an answer", ...LIMIT });
    },
  );

  it("a token that fails every operation names no key", async () => {
    const hsm = open(softHsm.fault, "firm");
    await hsm.listKeks();
    softHsm.fault.set("C_Encrypt rv 0x05");
    await expect(hsm.listKeks()).rejects.toMatchObject({ code: "HSM_UNAVAILABLE" });
  });
});

it("a pair keeps its label when the second key cannot be relabelled", async () => {
  const client = new Pkcs11Client(softHsm.token);
  await client.open();
  await client.run(({ p11, module, state }) => {
    const own = { [p11.CKA_LABEL]: "pair", [p11.CKA_ID]: Buffer.of(7) };
    state.makeKey(own);
    module.C_GenerateKey(state.session, { mechanism: p11.CKM_GENERIC_SECRET_KEY_GEN }, [
      { type: p11.CKA_CLASS, value: p11.CKO_SECRET_KEY },
      { type: p11.CKA_KEY_TYPE, value: p11.CKK_GENERIC_SECRET },
      { type: p11.CKA_VALUE_LEN, value: 32 },
      { type: p11.CKA_TOKEN, value: true },
      { type: p11.CKA_PRIVATE, value: true },
      { type: p11.CKA_SIGN, value: true },
      ...Object.entries(own).map(([type, value]) => ({ type: Number(type), value })),
    ]);
  });
  await client.exit();
  const hsm = open(softHsm.fault, "pair");
  const made = await hsm.listKeks();
  expect(made).toMatchObject([{ kind: "aes+hmac", label: "pair" }]);
  const keyId = made[0]?.keyId ?? "";
  const label = "pair@20260101T000000Z";
  softHsm.fault.set("C_SetAttributeValue rv 0x10 skip=1 count=1", "C_CopyObject rv 0x1B");
  await expect(hsm.relabel(keyId, label)).rejects.toMatchObject({ code: "TOKEN_REFUSED" });
  expect(await hsm.listKeks()).toEqual(made);
  softHsm.fault.clear();
  expect(await hsm.relabel(keyId, label)).toMatchObject({ keyId, kind: "aes+hmac", label });
});

// Keys that somebody without the PIN has made on the token: PKCS#11 lets a session that is not logged in make public
// objects.

import { expect, it } from "vitest";

import { PATIENT_CALLER } from "../../src/hsm/port.js";
import { FaultModule } from "../support/fault-module.js";
import { useOpenedTokens } from "../support/opened-tokens.js";
import { Pkcs11Client } from "../support/pkcs11-client.js";
import type { TestToken } from "../support/token.js";
import { useToken } from "../support/token-fixture.js";
import type { OpenedToken } from "../support/token-hsm.js";

const KEK_ID = "0a".repeat(16);
const made = useToken();
const openToken = useOpenedTokens();

interface PlantedKey {
  readonly label: string;
  readonly ckaId: string;
  readonly type?: "CKK_AES";
}

/** Makes a public HMAC or AES key in a session that has not logged in. */
async function plant(key: PlantedKey): Promise<void> {
  const client = new Pkcs11Client(made.token);
  await client.run(({ p11, module, state }, { label, ckaId, type }) => {
    state.load();
    state.initialise();
    state.openSession();
    const uses = type === "CKK_AES" ? [p11.CKA_ENCRYPT, p11.CKA_DECRYPT] : [p11.CKA_SIGN];
    module.C_CreateObject(state.session, [
      { type: p11.CKA_CLASS, value: p11.CKO_SECRET_KEY },
      { type: p11.CKA_KEY_TYPE, value: type === "CKK_AES" ? p11.CKK_AES : p11.CKK_GENERIC_SECRET },
      { type: p11.CKA_VALUE, value: Buffer.alloc(32, 7) },
      { type: p11.CKA_TOKEN, value: true },
      { type: p11.CKA_PRIVATE, value: false },
      { type: p11.CKA_LABEL, value: label },
      { type: p11.CKA_ID, value: Buffer.from(ckaId, "hex") },
      ...uses.map((use) => ({ type: use, value: true })),
    ]);
  }, key);
  await client.exit();
}

/** Destroys the private keys with a label, as another process of an operator would. */
async function destroyPrivate(label: string): Promise<void> {
  const client = new Pkcs11Client(made.token);
  await client.run(({ p11, module, state }, wanted) => {
    state.load();
    state.initialise();
    state.openSession();
    state.login();
    module.C_FindObjectsInit(state.session, [
      { type: p11.CKA_LABEL, value: wanted },
      { type: p11.CKA_PRIVATE, value: true },
    ]);
    const found = module.C_FindObjects(state.session, 10);
    module.C_FindObjectsFinal(state.session);
    for (const object of found) module.C_DestroyObject(state.session, object);
  }, label);
  await client.exit();
}

const open = (objectName: string, token: TestToken = made.token): OpenedToken["hsm"] =>
  openToken(token, { objectName }).hsm;

it("a public HMAC key with the label and CKA_ID of an AES KEK is not paired with it", async () => {
  const label = "paired@20260101T000000Z";
  const hsm = open("paired");
  const made = await hsm.generate({ label, ckaId: KEK_ID, kind: "auto", mechanism: "auto" });
  await plant({ label, ckaId: KEK_ID });
  const reader = open("paired");
  const listed = await reader.listKeks();
  expect(listed.find(({ keyId }) => keyId === made.keyId)).toMatchObject({ kind: "aes", unprotected: [] });
  const request = { keyId: made.keyId, mechanism: 1, aad: Buffer.alloc(1), data: Buffer.alloc(32) };
  await expect(reader.encrypt(request, PATIENT_CALLER)).resolves.toHaveLength(61);
});

it("a public key is never used for a KEK with its key_id, while the KEK exists or after", async () => {
  const label = "nameless@20260101T000000Z";
  const faulty = new FaultModule(made.token);
  faulty.set("only-mechanisms 0x1080,0x1087", "gcm-iv written");
  const planted = { label, ckaId: KEK_ID, type: "CKK_AES" } as const;
  try {
    const hsm = open("nameless", faulty);
    const { keyId } = await hsm.generate({ label, ckaId: KEK_ID, kind: "aes" });
    expect(keyId).toBe(`${KEK_ID}.n`);
    const request = { keyId, mechanism: 2, aad: Buffer.alloc(1) };
    const sealed = await hsm.encrypt({ ...request, data: Buffer.alloc(32) }, PATIENT_CALLER);
    for (let left = 4; left > 0; left--) await plant(planted);
    const reader = open("nameless", faulty);
    expect(await reader.listKeks()).toHaveLength(5);
    const opened = await reader.decrypt({ ...request, data: sealed }, PATIENT_CALLER);
    expect(Buffer.from(opened)).toEqual(Buffer.alloc(32));

    await destroyPrivate(label);
    await expect(reader.encrypt({ ...request, data: Buffer.alloc(32) }, PATIENT_CALLER)).rejects.toThrow(
      /holds no KEK/,
    );
  } finally {
    faulty.remove();
  }
});

it("a public key with a KEK's CKA_ID is not used for a key_id that it may have had", async () => {
  const label = "earlier@20260101T000000Z";
  const hsm = open("earlier");
  await hsm.generate({ label, ckaId: KEK_ID, kind: "aes" });
  await plant({ label, ckaId: KEK_ID });
  const reader = open("earlier");
  expect(await reader.listKeks()).toHaveLength(2);
  const keyId = `${KEK_ID}.c${"1".repeat(32)}`;
  const request = { keyId, mechanism: 5, aad: Buffer.alloc(1), data: Buffer.alloc(92) };
  await expect(reader.decrypt(request, PATIENT_CALLER)).rejects.toMatchObject({ code: "KEY_MISSING" });
});

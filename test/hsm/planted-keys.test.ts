// Keys that somebody without the PIN has made on the token: PKCS#11 lets a session that is not logged in make public
// objects.

import { afterAll, afterEach, beforeAll, expect, it } from "vitest";

import { PATIENT_CALLER } from "../../src/hsm/port.js";
import { Pkcs11Client } from "../support/pkcs11-client.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { openToken, type OpenedToken } from "../support/token-hsm.js";

const KEK_ID = "0a".repeat(16);
let softHsm: SoftHsm;
let opened: OpenedToken[] = [];

beforeAll(() => {
  softHsm = createSoftHsm();
});

afterEach(async () => {
  await Promise.all(opened.map(({ hsm }) => hsm.stop(200)));
  opened = [];
});

afterAll(() => {
  softHsm.remove();
});

/** Makes a public HMAC key in a session that has not logged in. */
async function plant(name: { readonly label: string; readonly ckaId: string }): Promise<void> {
  const client = new Pkcs11Client(softHsm);
  await client.run(({ p11, module, state }, { label, ckaId }) => {
    state.load();
    state.initialise();
    state.openSession();
    module.C_CreateObject(state.session, [
      { type: p11.CKA_CLASS, value: p11.CKO_SECRET_KEY },
      { type: p11.CKA_KEY_TYPE, value: p11.CKK_GENERIC_SECRET },
      { type: p11.CKA_VALUE, value: Buffer.alloc(32, 7) },
      { type: p11.CKA_TOKEN, value: true },
      { type: p11.CKA_PRIVATE, value: false },
      { type: p11.CKA_LABEL, value: label },
      { type: p11.CKA_ID, value: Buffer.from(ckaId, "hex") },
      { type: p11.CKA_SIGN, value: true },
    ]);
  }, name);
  await client.exit();
}

function open(objectName: string): OpenedToken["hsm"] {
  const one = openToken(softHsm, { objectName, requestTimeoutMs: 2_000 });
  opened.push(one);
  return one.hsm;
}

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

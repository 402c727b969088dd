// Oddities of vendors' libraries: what the standard permits and SoftHSM does not do, and what it forbids and some do. Each
// token makes a KEK, encrypts and decrypts on several lanes, and destroys it.

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import { PATIENT_CALLER } from "../../src/hsm/port.js";
import { codeOf, PLAINTEXT } from "../support/faulty-token.js";
import { FaultModule } from "../support/fault-module.js";
import { useOpenedTokens } from "../support/opened-tokens.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { waitFor } from "../support/wait.js";

const LABEL = "kms-kek@20260101T000000Z";

const openToken = useOpenedTokens();
let softHsm: SoftHsm;
let fault: FaultModule;

beforeAll(() => {
  softHsm = createSoftHsm();
});
afterEach(() => {
  fault.remove();
});
afterAll(() => {
  softHsm.remove();
});

const USABLE: readonly (readonly [what: string, ...rules: string[]])[] = [
  ["lacks functions", "lacks C_GetInfo C_CopyObject C_GenerateRandom C_WaitForSlotEvent C_CloseAllSessions"],
  ["cannot lock for several threads", "no-locking 0xA", "one-thread", "C_EncryptInit sleep 5"],
  [
    "takes no arguments of C_Initialize",
    "no-initialize-arguments 0x7",
    "one-thread",
    "C_EncryptInit sleep 5",
  ],
  ["ends a search after its last object", "found-limit 1", "C_FindObjectsFinal rv 0x91 after"],
  ["finds every object twice", "found-twice"],
  ["counts a slot too many, and pads texts with NULs", "extra-slots 1", "nul-padding"],
  ["pads values", "wide-booleans 8", "pad-attribute 0x3 64", "pad-attribute 0x102 32"],
  ["has no length for some attributes", "unavailable-attribute 0x161,0x163,0x164,0x10C"],
  ["does not search by CKA_TOKEN", "not-searchable 0x1"],
  ["has no C_GetSessionInfo", "lacks C_GetSessionInfo", "C_EncryptInit sleep 5"],
  ["always reports a public session", "session-state 2", "C_EncryptInit sleep 5"],
  ["shows new objects after a while", "late-objects 1000"],
  ["cuts CKA_ID without an error", "cut-attribute 0x102 8"],
  ["ignores CKA_ID", "ignore-in-templates 0x102"],
  ["lists none of its mechanisms", "C_GetMechanismList rv 0x54"],
  ["refuses C_Encrypt after C_EncryptInit", "C_Encrypt rv 0x54", "C_Decrypt rv 0x54"],
];

describe.each(USABLE)("a library that %s", (_what, ...rules) => {
  it("makes a KEK, uses it on several lanes and destroys it", async () => {
    fault = new FaultModule(softHsm);
    fault.set(...rules);
    const { hsm } = openToken(fault, { sessions: 4 });
    const kek = await hsm.generate({ label: LABEL, ckaId: "0e".repeat(16), kind: "auto" });
    const { keyId, unprotected } = kek;
    expect(unprotected).toEqual([]);
    const works = (await hsm.probe(keyId, "auto")).find((one) => one.works);
    const mechanism = works?.mechanism === "hmac-kdf" ? 5 : 1;
    const request = (data: Uint8Array) => ({ keyId, mechanism, aad: Buffer.from("aad"), data });
    const trips = Array.from({ length: 40 }, async () => {
      const body = await hsm.encrypt(request(PLAINTEXT), PATIENT_CALLER);
      return hsm.decrypt(request(body), PATIENT_CALLER);
    });
    for (const opened of await Promise.all(trips)) expect(opened).toEqual(PLAINTEXT);
    const body = await hsm.encrypt(request(PLAINTEXT), PATIENT_CALLER);
    body[body.length - 1] = (body.at(-1) ?? 0) ^ 1;
    expect(await codeOf(hsm.decrypt(request(body), PATIENT_CALLER))).toBe("NOT_AUTHENTIC");
    await hsm.destroy(kek);
    expect(await hsm.listKeks()).toEqual([]);
  });
});

it.each(["lacks C_GetSessionInfo", "session-state 2"])(
  "a token that does not show its login works again after it was lost: %s",
  async (rule) => {
    fault = new FaultModule(softHsm);
    fault.set(rule);
    const { hsm } = openToken(fault, { sessions: 4 });
    const kek = await hsm.generate({ label: LABEL, ckaId: "0e".repeat(16), kind: "aes" });
    const { keyId } = kek;
    const request = (data: Uint8Array) => ({ keyId, mechanism: 1, aad: Buffer.from("aad"), data });
    const body = await hsm.encrypt(request(PLAINTEXT), PATIENT_CALLER);
    const opens = async (): Promise<boolean> =>
      (await codeOf(hsm.decrypt(request(body), PATIENT_CALLER))) === "done";
    for (const loss of ["session-loss", "logout", "C_DecryptInit rv 0x101 count=3"]) {
      fault.set(rule, loss);
      await waitFor(opens, { what: `a decryption after ${loss}`, timeoutMs: 40_000 });
      expect((await hsm.listKeks()).map((one) => one.keyId)).toEqual([keyId]);
    }
    await hsm.destroy(kek);
  },
);

it("a KEK works on several lanes although handles are valid in one session only", async () => {
  fault = new FaultModule(softHsm);
  fault.set("handles-per-session", "C_EncryptInit sleep 5");
  const { hsm } = openToken(fault, { sessions: 4 });
  const kek = await hsm.generate({ label: LABEL, ckaId: "0d".repeat(16), kind: "auto" });
  expect(kek.kind).toBe("aes");
  const request = (data: Uint8Array) => ({ keyId: kek.keyId, mechanism: 1, aad: Buffer.from("aad"), data });
  const trips = Array.from({ length: 40 }, async () => {
    const body = await hsm.encrypt(request(PLAINTEXT), PATIENT_CALLER);
    return hsm.decrypt(request(body), PATIENT_CALLER);
  });
  for (const opened of await Promise.all(trips)) expect(opened).toEqual(PLAINTEXT);
  await hsm.destroy(kek);
  expect(await hsm.listKeks()).toEqual([]);
});

it.each([
  ["aes-kwp", 6, "C_UnwrapKey rv 0x40 failed"],
  ["aes-kwp", 6, "C_UnwrapKey rv 0x5 failed"],
  ["aes-gcm", 1, "C_Decrypt rv 0x40 failed"],
  ["aes-gcm", 1, "C_Decrypt rv 0x6 failed"],
] as const)("a changed ciphertext is refused if handles end with a session: %s %i %s", async (...row) => {
  const [choice, mechanism, refusal] = row;
  fault = new FaultModule(softHsm);
  fault.set("handles-per-session", refusal);
  const request = { label: LABEL, ckaId: "0d".repeat(16), kind: "aes", mechanism: choice } as const;
  const kek = await openToken(fault).hsm.generate(request);
  const crypt = (data: Uint8Array) => ({ keyId: kek.keyId, mechanism, aad: Buffer.from("aad"), data });
  const body = await openToken(fault).hsm.encrypt(crypt(PLAINTEXT), PATIENT_CALLER);
  const changed = Buffer.from(body);
  changed[20] = (changed[20] ?? 0) ^ 1;
  const { hsm } = openToken(fault);
  expect(await hsm.decrypt(crypt(body), PATIENT_CALLER)).toEqual(PLAINTEXT);
  for (let i = 0; i < 3; i++) {
    expect(await codeOf(hsm.decrypt(crypt(changed), PATIENT_CALLER))).toBe("NOT_AUTHENTIC");
  }
  expect(await hsm.decrypt(crypt(body), PATIENT_CALLER)).toEqual(PLAINTEXT);
  await hsm.destroy(kek);
});

it("a KEK whose attributes are longer than one byte is refused if it is extractable", async () => {
  fault = new FaultModule(softHsm);
  fault.set("wide-booleans 8", "report-attribute 0x162 1");
  const { hsm } = openToken(fault);
  const kek = await hsm.generate({ label: LABEL, ckaId: "0f".repeat(16), kind: "auto" });
  expect(kek.unprotected).toEqual(["CKA_EXTRACTABLE is true"]);
  await hsm.destroy(kek);
});

it("the error names the label if the token stores another one, and no key is left", async () => {
  fault = new FaultModule(softHsm);
  fault.set("cut-attribute 0x3 16");
  const { hsm } = openToken(fault);
  const made = hsm.generate({ label: LABEL, ckaId: "0f".repeat(16), kind: "auto" });
  await expect(made).rejects.toThrow(`cannot be found under its label "${LABEL}"; it was removed`);
  fault.clear();
  expect(await hsm.listKeks()).toEqual([]);
});

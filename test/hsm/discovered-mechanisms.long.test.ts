// How a token host discovers a token's mechanisms: a temporary error decides nothing, and a reading of the keyring does
// not discard what was discovered.

import { expect, it } from "vitest";

import { mechanismByName } from "../../src/hsm/mechanisms.js";
import { PATIENT_CALLER } from "../../src/hsm/port.js";
import { codeOf, PLAINTEXT, useFaultyToken } from "../support/faulty-token.js";
import { waitFor } from "../support/wait.js";

const token = useFaultyToken();
const READY = { what: "a host that has discovered nothing yet", timeoutMs: 20_000 };

it.each([
  "C_EncryptInit rv 0x80001234 count=3",
  "C_EncryptInit rv 0x5 count=9",
  "C_Decrypt rv 0x80001234 count=6",
  "C_Decrypt rv 0x40 count=6",
])("a temporary %s while AES-GCM is discovered does not rule it out", async (line) => {
  const opened = token.open();
  await waitFor(() => opened.hsm.readyHosts === 1, READY);
  token.fault.set(line);
  await codeOf(token.encrypt(opened));
  token.fault.clear();
  await token.recovers(opened);
});

it.each(["0x5", "0x71"])("a token that refuses an IV twice performs AES-GCM (CKR %s)", async (code) => {
  token.fault.set(`fresh-ivs ${code}`);
  const { hsm } = await token.start();
  expect(await hsm.probe(token.keyId, "aes-gcm")).toMatchObject([{ mechanism: "aes-gcm", works: true }]);
});

it("AES-GCM is not used on a token that ignores the caller's IV", async () => {
  token.fault.set("ignore-ivs");
  const { hsm } = token.open();
  const [result] = await hsm.probe(token.keyId, "aes-gcm");
  expect(result).toMatchObject({ mechanism: "aes-gcm", works: false });
});

it("a reading of the keyring discovers no mechanism again", async () => {
  const opened = await token.start();
  await opened.hsm.listKeks();
  const before = token.fault.calls("C_EncryptInit");
  await token.encrypt(opened);
  expect(token.fault.calls("C_EncryptInit") - before).toBe(1);
});

it("six general errors while a reading fingerprints a KEK change none of its key_ids", async () => {
  const { hsm } = await token.start();
  const before = await hsm.listKeks();
  token.fault.set("C_EncryptInit rv 0x5 count=6");
  expect(await hsm.listKeks()).toEqual(before);
});

it("a token that is away while AES-KWP is discovered is not considered to lack it", async () => {
  const only = "only-mechanisms 0x1080,0x350,0x2109,0x210A,0x210B";
  const { id } = mechanismByName("aes-kwp");
  token.fault.set(only);
  const maker = token.open({ objectName: "kwp" });
  const label = "kwp@20260101T000000Z";
  const { keyId } = await maker.hsm.generate({ label, ckaId: "0e".repeat(16), kind: "aes" });
  const { hsm } = token.open({ objectName: "kwp", requestTimeoutMs: 10_000 });
  await waitFor(() => hsm.readyHosts === 1, READY);
  token.fault.set(only, "C_UnwrapKey rv 0x30 count=1");
  const request = { keyId, mechanism: id, aad: Buffer.from("aad"), data: PLAINTEXT };
  expect(await codeOf(hsm.encrypt(request, PATIENT_CALLER))).toMatch(/^(done|HSM_UNAVAILABLE)$/);
});

it("a KEK that may only unwrap decrypts under AES-KWP in a plugin that never saw it wrap", async () => {
  const only = "only-mechanisms 0x1080,0x350,0x2109,0x210A,0x210B";
  token.fault.set(only);
  const maker = token.open({ objectName: "retired" });
  const { keyId } = await maker.hsm.generate({
    label: "retired@20260101T000000Z",
    ckaId: "0f".repeat(16),
    kind: "aes",
  });
  const call = { keyId, mechanism: mechanismByName("aes-kwp").id, aad: Buffer.from("aad") };
  const body = Buffer.from(await maker.hsm.encrypt({ ...call, data: PLAINTEXT }, PATIENT_CALLER));
  token.fault.set(only, "decrypt-only 0x210A,0x210B");
  const { hsm } = token.open({ objectName: "retired", requestTimeoutMs: 10_000 });
  for (let calls = 0; calls < 2; calls++) {
    const changed = Buffer.from(body);
    changed[9] = (changed[9] ?? 0) ^ 1;
    expect(await codeOf(hsm.decrypt({ ...call, data: changed }, PATIENT_CALLER))).toBe("NOT_AUTHENTIC");
    const elsewhere = { ...call, aad: Buffer.from("other"), data: body };
    expect(await codeOf(hsm.decrypt(elsewhere, PATIENT_CALLER))).toBe("NOT_AUTHENTIC");
    expect(Buffer.from(await hsm.decrypt({ ...call, data: body }, PATIENT_CALLER))).toEqual(PLAINTEXT);
  }
  expect(await codeOf(hsm.encrypt({ ...call, data: PLAINTEXT }, PATIENT_CALLER))).not.toBe("done");
});

it("a ciphertext refused with a code of PKCS#11 v3 costs no host", async () => {
  const opened = await token.start();
  const body = await token.encrypt(opened);
  token.fault.set("C_Decrypt rv 0x42");
  expect(await codeOf(token.decrypt(opened, body))).toBe("NOT_AUTHENTIC");
  token.fault.set("C_Encrypt rv 0x21");
  expect(await codeOf(token.encrypt(opened))).toBe("INPUT_INVALID");
  expect(opened.ended).toEqual([]);
});

it("a token that answers a general error to every call is away, and does not lack AES-GCM", async () => {
  const opened = token.open({ requestTimeoutMs: 10_000 });
  await waitFor(() => opened.hsm.readyHosts === 1, READY);
  token.fault.set("* rv 0x5");
  expect(await codeOf(token.encrypt(opened))).toBe("HSM_UNAVAILABLE");
  token.fault.clear();
  await token.recovers(opened);
});

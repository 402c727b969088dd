// Trials of mechanisms: `auto` tries as few as possible, and an error of a trial does not count as an error of the
// token.

import { afterEach, expect, it } from "vitest";

import { mechanismByName } from "../../../src/hsm/mechanisms.js";
import { PATIENT_CALLER } from "../../../src/hsm/port.js";
import { codeOf, PLAINTEXT, useFaultyToken } from "../../support/faulty-token.js";
import { waitFor } from "../../support/wait.js";

const token = useFaultyToken();
const KEY_WRAP_ONLY = "only-mechanisms 0x1080,0x350,0x1081,0x2109,0x210A,0x210B";
const LABEL = "@20260101T000000Z";
const slow = { requestTimeoutMs: 10_000, startTimeoutMs: 30_000 };

afterEach(() => {
  token.fault.clear();
});

it("auto stops at the first mechanism that works", async () => {
  const { hsm } = await token.start();
  const before = token.fault.calls("C_WrapKey");
  expect(await hsm.probe(token.keyId, "auto")).toMatchObject([{ mechanism: "aes-gcm", works: true }]);
  expect(token.fault.calls("C_WrapKey")).toBe(before);
});

it.each(["C_UnwrapKey rv 0x30 failed", "C_UnwrapKey rv 0x32 failed", "C_UnwrapKey rv 0x101 failed"])(
  "a tampered ciphertext refused with a code for a broken device costs no host: %s",
  async (line) => {
    token.fault.set(KEY_WRAP_ONLY, line);
    const objectName = `kwp${line.slice(15, 19)}`;
    const { hsm, ended } = token.open({ ...slow, objectName });
    const { keyId } = await hsm.generate({ label: objectName + LABEL, ckaId: "0e".repeat(16), kind: "auto" });
    expect(await hsm.probe(keyId, "auto")).toMatchObject([
      { mechanism: "aes-gcm", works: false },
      { mechanism: "hmac-kdf", works: false },
      { mechanism: "aes-kwp", works: true },
    ]);
    expect(ended).toEqual([]);
  },
);

it("a request with a tampered ciphertext that ends in CKR_DEVICE_ERROR costs no host", async () => {
  token.fault.set(KEY_WRAP_ONLY, "C_UnwrapKey rv 0x30 failed");
  const { hsm, ended } = token.open({ ...slow, objectName: "kwp" });
  const { keyId } = await hsm.generate({ label: `kwp${LABEL}`, ckaId: "0f".repeat(16), kind: "auto" });
  const request = { keyId, mechanism: mechanismByName("aes-kwp").id, aad: Buffer.from("aad") };
  const body = await hsm.encrypt({ ...request, data: PLAINTEXT }, PATIENT_CALLER);
  body[20] = (body[20] ?? 0) ^ 1;
  expect(await codeOf(hsm.decrypt({ ...request, data: body }, PATIENT_CALLER))).toBe("NOT_AUTHENTIC");
  expect(ended).toEqual([]);
});

it.each(["0x30", "0x32", "0x80001234", "0x6"])(
  "a mechanism whose trial ends in %s is passed over while the token answers otherwise",
  async (code) => {
    token.fault.set(`mechanism-error 0x1087 ${code}`);
    const { hsm, ended } = token.open(slow);
    const tried = await hsm.probe(token.keyId, "auto");
    expect(tried.map(({ mechanism, works }) => [mechanism, works])).toEqual([
      ["aes-gcm", false],
      ["hmac-kdf", false],
      ["aes-kwp", false],
      ["aes-cbc-hmac", false],
      ["rsa-oaep", false],
    ]);
    const objectName = `gcm${code.length}${code.at(-1) ?? ""}`;
    const other = token.open({ ...slow, objectName });
    const made = await other.hsm.generate({
      label: objectName + LABEL,
      ckaId: "0d".repeat(16),
      kind: "auto",
    });
    expect(made.kind).toBe("hmac");
    expect([...ended, ...other.ended]).toEqual([]);
  },
);

it("a token that answers nothing during a trial is away", async () => {
  const { hsm } = token.open(slow);
  await waitFor(() => hsm.readyHosts === 1, { what: "a host", timeoutMs: 20_000 });
  token.fault.set("C_EncryptInit rv 0x30", "C_SignInit rv 0x30");
  expect(await codeOf(hsm.probe(token.keyId, "auto"))).toBe("HSM_UNAVAILABLE");
});

// Faults of tokens other than SoftHSM: NSS softokn behind the fault module, in the token host's own process; and a
// token behind a server that can be killed and stopped, with HMAC as its only mechanism.

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import type { MechanismChoice } from "../../src/hsm/mechanisms.js";
import { PATIENT_CALLER } from "../../src/hsm/port.js";
import { codeOf, PLAINTEXT } from "../support/faulty-token.js";
import { FaultModule } from "../support/fault-module.js";
import { createNss, type Nss } from "../support/nss.js";
import { P11KitRemote } from "../support/p11kit-remote.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { openToken, type OpenedToken } from "../support/token-hsm.js";
import { waitFor } from "../support/wait.js";

const LIMIT = { timeoutMs: 40_000, intervalMs: 20 };
const LABEL = "kms-kek@20260101T000000Z";

const request = (keyId: string, mechanism: number, data: Uint8Array) => ({
  keyId,
  mechanism,
  aad: Buffer.from("aad"),
  data,
});

const recovers = ({ hsm }: OpenedToken, keyId: string, mechanism: number): Promise<unknown> =>
  waitFor(
    async () => {
      const body = await hsm.encrypt(request(keyId, mechanism, PLAINTEXT), PATIENT_CALLER);
      return (await hsm.decrypt(request(keyId, mechanism, body), PATIENT_CALLER)).equals(PLAINTEXT);
    },
    { what: "a round trip", ...LIMIT },
  );

describe("NSS softokn", () => {
  let nss: Nss;
  let fault: FaultModule;
  let opened: OpenedToken;

  beforeEach(() => {
    nss = createNss();
    fault = new FaultModule(nss);
    opened = openToken(fault, { hosts: 2, requestTimeoutMs: 1_000 });
  });

  afterEach(async () => {
    await opened.hsm.stop(200);
    fault.remove();
    nss.remove();
  });

  it("module.entry selects its functions for FIPS mode, which make and use a KEK", async () => {
    const fips = createNss({ fips: true });
    const { hsm } = openToken(fips);
    try {
      const { keyId } = await hsm.generate({ label: LABEL, ckaId: "0c".repeat(16), kind: "auto" });
      const body = await hsm.encrypt(request(keyId, 1, PLAINTEXT), PATIENT_CALLER);
      expect(await hsm.decrypt(request(keyId, 1, body), PATIENT_CALLER)).toEqual(PLAINTEXT);
    } finally {
      await hsm.stop(200);
      fips.remove();
    }
  });

  it.each([
    ["that the library does not have", {}, /has no function Nothing; correct module\.entry/],
    [
      "of a library that does not exist",
      { modulePath: "/nowhere.so" },
      /cannot load .*nowhere\.so: .*No such/,
    ],
  ])("the error names a module.entry %s", async (_what, change, message) => {
    const { hsm } = openToken({ ...nss, moduleEntry: "Nothing", ...change });
    await expect(hsm.listKeks()).rejects.toThrow(message);
    await hsm.stop(200);
  });

  it("a generated key is not reported as imported, although NSS reports CKA_LOCAL false", async () => {
    const made = await opened.hsm.generate({ label: LABEL, ckaId: "0c".repeat(16), kind: "auto" });
    expect([made.remarks, (await opened.hsm.listKeks())[0]?.remarks]).toEqual([[], []]);
  });

  it("NSS softokn works again after every fault, with the same key_id", async () => {
    const { keyId } = await opened.hsm.generate({ label: LABEL, ckaId: "0c".repeat(16), kind: "auto" });
    await recovers(opened, keyId, 1);
    for (const lines of [
      ["session-loss"],
      ["logout"],
      ["token-removed"],
      ["device-error"],
      ["C_Encrypt segv"],
      ["C_DecryptInit hang"],
      ["C_EncryptInit rv 0x101 count=1"],
      ["* rv 0x190 p=0.2"],
    ]) {
      fault.set(...lines);
      for (let i = 0; i < 3; i++) await codeOf(recoversOnce(keyId));
      fault.clear();
      await recovers(opened, keyId, 1);
    }
    expect((await opened.hsm.listKeks()).map((kek) => kek.keyId)).toEqual([keyId]);
  });

  const recoversOnce = async (keyId: string): Promise<void> => {
    const body = await opened.hsm.encrypt(request(keyId, 1, PLAINTEXT), PATIENT_CALLER);
    await opened.hsm.decrypt(request(keyId, 1, body), PATIENT_CALLER);
  };
});

describe("a token behind a server", () => {
  let softHsm: SoftHsm;
  let remote: P11KitRemote;
  let opened: OpenedToken;

  beforeEach(async () => {
    softHsm = createSoftHsm();
    remote = new P11KitRemote(softHsm);
    await remote.start();
    opened = openToken(remote, { hosts: 2, requestTimeoutMs: 2_000, startTimeoutMs: 10_000 });
  });

  afterEach(async () => {
    remote.resume();
    await opened.hsm.stop(200);
    remote.remove();
    softHsm.remove();
  });

  it("a token behind a server works again after the server was killed, stopped and restarted", async () => {
    const { keyId } = await opened.hsm.generate({ label: LABEL, ckaId: "0d".repeat(16), kind: "auto" });
    const probed = (await opened.hsm.probe(keyId, "auto")).find(({ works }) => works);
    expect(probed?.mechanism).toBe("hmac-kdf");
    await recovers(opened, keyId, 5);

    await remote.kill();
    const code = await codeOf(opened.hsm.encrypt(request(keyId, 5, PLAINTEXT), PATIENT_CALLER));
    expect(code).toMatch(/^(HSM_UNAVAILABLE|DEADLINE)$/);
    await waitFor(() => !opened.hsm.state().up, { what: "the state to tell", ...LIMIT });
    await remote.start();
    await recovers(opened, keyId, 5);

    remote.stop();
    const hung = await codeOf(opened.hsm.encrypt(request(keyId, 5, PLAINTEXT), PATIENT_CALLER));
    expect(hung).toMatch(/^(HSM_UNAVAILABLE|DEADLINE)$/);
    remote.resume();
    await recovers(opened, keyId, 5);
    expect((await opened.hsm.listKeks()).map((kek) => kek.keyId)).toEqual([keyId]);
  });
});

it("a KEK that a token cannot make: the error says what to request, or what the token lacks", async () => {
  const softHsm = createSoftHsm();
  const fault = new FaultModule(softHsm);
  const { hsm } = openToken(fault);
  const messageFor = async (rule: string, mechanism: MechanismChoice | "auto" = "auto"): Promise<string> => {
    fault.set(rule);
    const made = hsm.generate({ label: LABEL, ckaId: "0d".repeat(16), kind: "auto", mechanism });
    return made.then(
      () => "",
      (error: unknown) => String(error),
    );
  };
  // It makes AES keys, and encrypts with none of the mechanisms in the table.
  expect(await messageFor("only-mechanisms 0x0,0x9,0x43,0x1080,0x1082")).toContain("--mechanism rsa-oaep");
  const nothing = await messageFor("only-mechanisms 0x1,0x1080");
  expect(nothing).toContain("rsa-oaep: the token does not list CKM_RSA_PKCS_OAEP");
  const advice = "set another mechanism, or auto";
  expect(nothing).not.toContain(advice);
  for (const mechanism of ["aes-gcm", "aes-kwp", "hmac-kdf"] as const) {
    const refused = await messageFor("refuse-mechanism 0x1087,0x210a,0x210b,0x251", mechanism);
    expect(refused.split(advice), refused).toHaveLength(2);
  }
  await hsm.stop(200);
  fault.remove();
  softHsm.remove();
});

// What every token has to do under the HSM layer, whatever its library, its AES-GCM and the mechanisms it
// offers: made keys, round trips, refused changes, key_ids that survive a restart.

import { randomBytes, randomUUID } from "node:crypto";

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import { mechanismByName, type MechanismName } from "../../src/hsm/mechanisms.js";
import { PATIENT_CALLER } from "../../src/hsm/port.js";
import { FaultModule } from "../support/fault-module.js";
import { createNss, type Nss } from "../support/nss.js";
import { openToken, type OpenedToken } from "../support/token-hsm.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import type { TestToken } from "../support/token.js";

const LABEL = "@20260101T000000Z";
const makeId = (): string => randomUUID().replaceAll("-", "");

let softHsm: SoftHsm;
let nss: Nss;
let fault: FaultModule;
let opened: OpenedToken[] = [];

beforeAll(() => {
  softHsm = createSoftHsm();
  nss = createNss();
  fault = new FaultModule(softHsm);
});

afterEach(async () => {
  await Promise.all(opened.map(({ hsm }) => hsm.stop(500)));
  opened = [];
  fault.clear();
});

afterAll(() => {
  fault.remove();
  nss.remove();
  softHsm.remove();
});

function open(token: TestToken, objectName: string): OpenedToken["hsm"] {
  const one = openToken(token, { objectName, requestTimeoutMs: 2_000 });
  opened.push(one);
  return one.hsm;
}

/** Only what makes keys, and these. */
const only = (...mechanisms: string[]): string => `only-mechanisms 0x1080,0x350,${mechanisms.join(",")}`;

interface Case {
  readonly name: string;
  readonly token: () => TestToken;
  readonly lines: readonly string[];
  readonly mechanism: MechanismName;
}

const gcm = (mode: string, mechanism: MechanismName): Case => ({
  name: `AES-GCM with the IV ${mode}`,
  token: () => fault,
  lines: [`gcm-iv ${mode}`],
  mechanism,
});

const CASES: readonly Case[] = [
  { name: "SoftHSM", token: () => softHsm, lines: [], mechanism: "aes-gcm" },
  { name: "NSS softokn", token: () => nss, lines: [], mechanism: "aes-gcm" },
  gcm("caller", "aes-gcm"),
  gcm("written", "aes-gcm-iv-written"),
  gcm("written-late", "aes-gcm-iv-written"),
  gcm("appended12", "aes-gcm-iv-appended"),
  gcm("appended16", "aes-gcm-iv-appended"),
  gcm("prepended", "aes-gcm-iv-prepended"),
  gcm("appended12-own", "aes-gcm-iv-appended"),
  gcm("appended16-own", "aes-gcm-iv-appended"),
  gcm("prepended-own", "aes-gcm-iv-prepended"),
  { name: "a token with HMAC only", token: () => fault, lines: [only("0x251")], mechanism: "hmac-kdf" },
  {
    name: "a token with AES key wrap only",
    token: () => fault,
    lines: [only("0x2109", "0x210A")],
    mechanism: "aes-kwp",
  },
  { name: "a token that takes 2-byte ids", token: () => fault, lines: ["id-limit 2"], mechanism: "aes-gcm" },
  {
    name: "a token without read-only sessions",
    token: () => fault,
    lines: ["refuse-ro-sessions"],
    mechanism: "aes-gcm",
  },
];

describe.each(CASES)("$name", ({ name, token, lines, mechanism }) => {
  it("makes a key, encrypts and decrypts with it, and refuses what was changed", async () => {
    fault.set(...lines);
    const objectName = `k${String(CASES.findIndex((one) => one.name === name))}`;
    const hsm = open(token(), objectName);
    const made = await hsm.generate({ label: objectName + LABEL, ckaId: makeId(), kind: "auto" });
    expect(made.unprotected).toEqual([]);
    const found = (await hsm.probe(made.keyId, "auto")).find((result) => result.works);
    expect(found?.mechanism).toBe(mechanism);
    const { id, overhead } = mechanismByName(mechanism);
    const aad = Buffer.from("associated data");
    const call = (data: Uint8Array, more = {}) => ({ keyId: made.keyId, mechanism: id, aad, data, ...more });
    for (const length of [1, 15, 16, 17, 32, 767, 768]) {
      const plaintext = randomBytes(length);
      const body = await hsm.encrypt(call(plaintext), PATIENT_CALLER);
      expect(body.length - length).toBeGreaterThanOrEqual(overhead.min);
      expect(body.length - length).toBeLessThanOrEqual(overhead.max);
      expect((await hsm.decrypt(call(body), PATIENT_CALLER)).equals(plaintext)).toBe(true);
    }
    const body = await hsm.encrypt(call(randomBytes(32)), PATIENT_CALLER);
    const refused = { code: expect.stringMatching(/^(NOT_AUTHENTIC|INPUT_INVALID)$/) as string };
    for (let at = 0; at < body.length; at += 3) {
      const changed = Buffer.from(body);
      changed[at] = (changed[at] ?? 0) ^ 0x10;
      await expect(hsm.decrypt(call(changed), PATIENT_CALLER), `byte ${String(at)}`).rejects.toMatchObject(
        refused,
      );
    }
    const other = call(body, { aad: Buffer.from("other") });
    await expect(hsm.decrypt(other, PATIENT_CALLER)).rejects.toMatchObject(refused);
    const again = open(token(), objectName);
    expect((await again.listKeks()).map(({ keyId }) => keyId)).toEqual([made.keyId]);
    expect(await again.decrypt(call(body), PATIENT_CALLER)).toHaveLength(32);
  });
});

it("uses an AES and an HMAC key of one name as a pair", async () => {
  fault.set(only("0x1082", "0x251"));
  const hsm = open(fault, "pair");
  const made = await hsm.generate({ label: `pair${LABEL}`, ckaId: makeId(), kind: "aes+hmac" });
  expect(made.kind).toBe("aes+hmac");
  const aad = Buffer.from("aad");
  const { id } = mechanismByName("aes-cbc-hmac");
  for (const length of [1, 15, 16, 768]) {
    const plaintext = randomBytes(length);
    const body = await hsm.encrypt(
      { keyId: made.keyId, mechanism: id, aad, data: plaintext },
      PATIENT_CALLER,
    );
    const opened = await hsm.decrypt({ keyId: made.keyId, mechanism: id, aad, data: body }, PATIENT_CALLER);
    expect(opened.equals(plaintext)).toBe(true);
    for (let at = 0; at < Math.min(body.length, 96); at += 5) {
      const changed = Buffer.from(body);
      changed[at] = (changed[at] ?? 0) ^ 1;
      const question = { keyId: made.keyId, mechanism: id, aad, data: changed };
      await expect(hsm.decrypt(question, PATIENT_CALLER)).rejects.toMatchObject({ code: "NOT_AUTHENTIC" });
    }
  }
});

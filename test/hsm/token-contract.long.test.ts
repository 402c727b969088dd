// What the HSM layer guarantees on every token, whatever its library, its IV mode and its mechanisms: keys are made,
// round trips succeed, changed ciphertexts are refused, and key_ids survive a restart.

import { randomBytes, randomUUID } from "node:crypto";

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import {
  MECHANISM_CHOICES,
  mechanismByName,
  type KekKind,
  type MechanismName,
} from "../../src/hsm/mechanisms.js";
import { PATIENT_CALLER } from "../../src/hsm/port.js";
import { FaultModule } from "../support/fault-module.js";
import { createNss, type Nss } from "../support/nss.js";
import { useOpenedTokens } from "../support/opened-tokens.js";
import { useToken } from "../support/token-fixture.js";
import type { OpenedToken } from "../support/token-hsm.js";
import type { TestToken } from "../support/token.js";

const LABEL = "@20260101T000000Z";
const makeId = (): string => randomUUID().replaceAll("-", "");

const softHsm = useToken({ faults: [] });
const openToken = useOpenedTokens();
let nss: Nss;
let nssFault: FaultModule;

beforeAll(() => {
  nss = createNss();
  nssFault = new FaultModule(nss);
});

afterEach(() => {
  nssFault.clear();
});

afterAll(() => {
  nssFault.remove();
  nss.remove();
});

const open = (token: TestToken, objectName: string): OpenedToken["hsm"] =>
  openToken(token, { objectName }).hsm;

/** Returns a rule that allows key generation and these mechanisms only. */
const only = (...mechanisms: string[]): string => `only-mechanisms 0x1080,0x350,${mechanisms.join(",")}`;

/** RSA key pairs, OAEP, PSS. */
const RSA_ONLY = "only-mechanisms 0x0,0x9,0x43";
const KEY_WRAP = "0x2109,0x210A,0x210B";

interface Case {
  readonly name: string;
  readonly token: () => TestToken;
  readonly lines: readonly string[];
  readonly mechanism: MechanismName;
  /** "auto" if undefined. */
  readonly kind?: KekKind;
  /** The maximum length that the mechanism encrypts, in bytes; 768 if undefined. */
  readonly longest?: number;
}

const gcm = (mode: string, mechanism: MechanismName): Case => ({
  name: `AES-GCM with the IV ${mode}`,
  token: () => softHsm.fault,
  lines: [`gcm-iv ${mode}`],
  mechanism,
});

const CASES: readonly Case[] = [
  { name: "SoftHSM", token: () => softHsm.token, lines: [], mechanism: "aes-gcm" },
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
  {
    name: "SoftHSM with HMAC only",
    token: () => softHsm.fault,
    lines: [only("0x251")],
    mechanism: "hmac-kdf",
  },
  {
    name: "SoftHSM with AES key wrap only",
    token: () => softHsm.fault,
    lines: [only(KEY_WRAP)],
    mechanism: "aes-kwp",
  },
  {
    name: "SoftHSM with AES-CBC and HMAC only",
    token: () => softHsm.fault,
    lines: [only("0x1082", "0x251")],
    mechanism: "aes-cbc-hmac",
    kind: "aes+hmac",
  },
  {
    name: "NSS softokn with HMAC only",
    token: () => nssFault,
    lines: [only("0x251")],
    mechanism: "hmac-kdf",
  },
  {
    name: "NSS softokn with AES key wrap only",
    token: () => nssFault,
    lines: [only(KEY_WRAP)],
    mechanism: "aes-kwp",
  },
  {
    name: "SoftHSM with RSA only, and OAEP with SHA-1 only",
    token: () => softHsm.fault,
    lines: [RSA_ONLY],
    mechanism: "rsa-oaep-sha1",
    longest: 342,
  },
  {
    name: "NSS softokn with RSA only",
    token: () => nssFault,
    lines: [RSA_ONLY],
    mechanism: "rsa-oaep",
    longest: 318,
  },
  {
    name: "a token that takes 2-byte ids",
    token: () => softHsm.fault,
    lines: ["id-limit 2"],
    mechanism: "aes-gcm",
  },
  {
    name: "a token without read-only sessions",
    token: () => softHsm.fault,
    lines: ["refuse-ro-sessions"],
    mechanism: "aes-gcm",
  },
];

describe.each(CASES)("$name", ({ name, token, lines, mechanism, kind, longest = 768 }) => {
  it("a new key encrypts and decrypts, and refuses changed ciphertexts", async () => {
    softHsm.fault.set(...lines);
    nssFault.set(...lines);
    const objectName = `k${CASES.findIndex((one) => one.name === name)}`;
    const hsm = open(token(), objectName);
    const made = await hsm.generate({ label: objectName + LABEL, ckaId: makeId(), kind: kind ?? "auto" });
    expect(made.unprotected).toEqual([]);
    const choice = kind === undefined ? "auto" : mechanismByName(mechanism).choice;
    const tried = await hsm.probe(made.keyId, choice);
    expect(tried.at(-1)).toMatchObject({ mechanism, works: true });
    expect(tried.slice(0, -1).filter(({ works }) => works)).toEqual([]);
    const { id, overhead } = mechanismByName(mechanism);
    const aad = Buffer.from("associated data");
    const call = (data: Uint8Array, more = {}) => ({ keyId: made.keyId, mechanism: id, aad, data, ...more });
    for (const length of [1, 15, 16, 17, 32, longest - 1, longest]) {
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
      await expect(hsm.decrypt(call(changed), PATIENT_CALLER), `byte ${at}`).rejects.toMatchObject(refused);
    }
    const other = call(body, { aad: Buffer.from("other") });
    await expect(hsm.decrypt(other, PATIENT_CALLER)).rejects.toMatchObject(refused);
    const again = open(token(), objectName);
    expect((await again.listKeks()).map(({ keyId }) => keyId)).toEqual([made.keyId]);
    expect(await again.decrypt(call(body), PATIENT_CALLER)).toHaveLength(32);
  });
});

it("the contract is tested under every mechanism that an operator can choose", () => {
  const tested = new Set(CASES.map(({ mechanism }) => mechanismByName(mechanism).choice));
  expect(MECHANISM_CHOICES.filter((choice) => !tested.has(choice))).toEqual([]);
});

it("a token that cannot store both keys of a pair stores neither", async () => {
  const hsm = open(nss, "half");
  const request = { label: `half${LABEL}`, ckaId: makeId(), kind: "aes+hmac" } as const;
  await expect(hsm.generate(request)).rejects.toMatchObject({ code: "TOKEN_REFUSED" });
  expect(await hsm.listKeks()).toEqual([]);
});

it("no key of a pair remains when the token fails while it is made", async () => {
  const hsm = open(softHsm.fault, "between");
  // Two session keys and the first key of the pair are made.
  softHsm.fault.set("C_GenerateKey rv 0xD1 skip=3");
  const request = { label: `between${LABEL}`, ckaId: makeId(), kind: "aes+hmac" } as const;
  await expect(hsm.generate(request)).rejects.toMatchObject({ code: "TOKEN_REFUSED" });
  expect(await hsm.listKeks()).toEqual([]);
});

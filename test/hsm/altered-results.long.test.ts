// A token that alters one bit of a result and returns CKR_OK: no ciphertext that cannot be decrypted and no wrong
// plaintext leaves the token host, and a valid ciphertext is not reported as invalid. One altered result costs a
// session.

import { randomBytes } from "node:crypto";

import { afterAll, afterEach, describe, expect, it } from "vitest";

import type { KekKind, MechanismName } from "../../src/hsm/mechanisms.js";
import { mechanismByName, MECHANISMS } from "../../src/hsm/mechanisms.js";
import { PATIENT_CALLER, type CryptRequest, type KekRecord } from "../../src/hsm/port.js";
import { KekCalls } from "../../src/provider/kek-calls.js";
import { LOCAL_KEK_BYTES } from "../../src/provider/local-kek.js";
import { Prover } from "../../src/provider/prover.js";
import { SILENT } from "../support/fake-hsm.js";
import { codeOf, PLAINTEXT, useFaultyToken } from "../support/faulty-token.js";
import { openToken, type OpenedToken } from "../support/token-hsm.js";

const token = useFaultyToken();
const AAD = Buffer.from("associated data");

interface Case {
  readonly name: string;
  readonly lines: readonly string[];
  readonly mechanism: MechanismName;
  readonly kind: KekKind;
  /** The calls whose output an Encrypt or a Decrypt uses. */
  readonly outputs: readonly string[];
  /** The calls of a Decrypt. */
  readonly decrypting: readonly string[];
}

const only = (...mechanisms: string[]): string => `only-mechanisms 0x1080,0x350,${mechanisms.join(",")}`;
const gcm = (mode: string, mechanism: MechanismName, ...more: string[]): Case => ({
  name: `AES-GCM, IV ${mode}`,
  lines: [`gcm-iv ${mode}`],
  mechanism,
  kind: "aes",
  outputs: ["C_Encrypt", "C_Decrypt", ...more],
  decrypting: ["C_DecryptInit", "C_Decrypt"],
});

const CASES: readonly Case[] = [
  gcm("caller", "aes-gcm"),
  gcm("written", "aes-gcm-iv-written", "C_EncryptInit"),
  gcm("appended12", "aes-gcm-iv-appended"),
  gcm("prepended", "aes-gcm-iv-prepended"),
  gcm("appended16-own", "aes-gcm-iv-appended"),
  {
    name: "HMAC",
    lines: [only("0x251")],
    mechanism: "hmac-kdf",
    kind: "hmac",
    outputs: ["C_Sign"],
    decrypting: ["C_SignInit", "C_Sign"],
  },
  {
    name: "AES key wrap",
    lines: [only("0x2109,0x210A,0x210B")],
    mechanism: "aes-kwp",
    kind: "aes",
    outputs: ["C_WrapKey", "C_GetAttributeValue"],
    decrypting: ["C_UnwrapKey", "C_GetAttributeValue", "C_DestroyObject"],
  },
  {
    name: "AES-CBC and HMAC",
    lines: [only("0x1082", "0x251")],
    mechanism: "aes-cbc-hmac",
    kind: "aes+hmac",
    outputs: ["C_Encrypt", "C_Sign", "C_Decrypt"],
    decrypting: ["C_SignInit", "C_Sign", "C_DecryptInit", "C_Decrypt"],
  },
];

const caseAt = (index: number): Case => CASES[index] ?? gcm("caller", "aes-gcm");

interface Prepared {
  readonly one: OpenedToken;
  readonly request: CryptRequest;
}

/** The hosts of the latest case, which all its tests use as long as none has ended. */
let prepared: ({ readonly its: Case } & Prepared) | undefined;

async function endPrepared(): Promise<void> {
  const ending = prepared?.one.hsm.stop(200);
  prepared = undefined;
  await ending;
}

afterEach(async () => {
  token.fault.clear();
  if (prepared !== undefined && prepared.one.ended.length > 0) await endPrepared();
});
afterAll(endPrepared);

/** Returns a KEK of the case's kind and a request under it, after the mechanism has been discovered. */
async function prepare(its: Case): Promise<Prepared> {
  token.fault.set(...its.lines);
  if (prepared?.its === its) return prepared;
  await endPrepared();
  const objectName = objectNameOf(its);
  const one = openToken(token.fault, { objectName });
  const request: CryptRequest = {
    keyId: (await kekOf(its, one)).keyId,
    mechanism: mechanismByName(its.mechanism).id,
    aad: AAD,
    data: PLAINTEXT,
    check: "digest",
  };
  await one.hsm.encrypt(request, PATIENT_CALLER);
  prepared = { its, one, request };
  return prepared;
}

const objectNameOf = (its: Case): string => `k${CASES.indexOf(its)}`;

async function kekOf(its: Case, { hsm }: OpenedToken): Promise<KekRecord> {
  const [known] = await hsm.listKeks();
  const label = `${objectNameOf(its)}@20260101T000000Z`;
  return known ?? hsm.generate({ label, ckaId: "0f".repeat(16), kind: its.kind });
}

describe.each(CASES)("$name", (its) => {
  it("one altered result of any call changes no answer and costs no host", async () => {
    const { one, request } = await prepare(its);
    const { hsm } = one;
    const old = { ...request, check: "twice" } as const;
    const good = await hsm.encrypt(request, PATIENT_CALLER);
    const older = await hsm.encrypt(old, PATIENT_CALLER);
    for (const output of its.outputs) {
      for (const byte of [0, 33, 9_999]) {
        for (const skip of [0, 1]) {
          const rule = `${output} alter ${byte} skip=${skip} count=1`;
          token.fault.set(...its.lines, rule);
          const body = await hsm.encrypt(request, PATIENT_CALLER);
          token.fault.set(...its.lines);
          const back = await hsm.decrypt({ ...request, data: body }, PATIENT_CALLER);
          expect(back.equals(PLAINTEXT), `Encrypt under ${rule}`).toBe(true);
          token.fault.set(...its.lines, rule);
          const answer = await hsm.decrypt({ ...request, data: good }, PATIENT_CALLER);
          expect(answer.equals(PLAINTEXT), `Decrypt under ${rule}`).toBe(true);
          token.fault.set(...its.lines, rule);
          const answerToOld = await hsm.decrypt({ ...old, data: older }, PATIENT_CALLER);
          expect(answerToOld.equals(PLAINTEXT), `Decrypt of format 1 under ${rule}`).toBe(true);
        }
      }
    }
    expect(one.ended).toEqual([]);
    expect(one.results).toContain("altered");
  });

  // CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED, CKR_ARGUMENTS_BAD; CKR_ENCRYPTED_DATA_INVALID, CKR_AEAD_DECRYPT_FAILED.
  it.each(["0x5", "0x6", "0x7", "0x40", "0x42"])(
    "a valid ciphertext is opened although a call of its Decrypt once ended with %s",
    async (code) => {
      const { one, request } = await prepare(its);
      const good = await one.hsm.encrypt(request, PATIENT_CALLER);
      for (const call of its.decrypting) {
        token.fault.set(...its.lines, `${call} rv ${code} count=1`);
        const answer = await one.hsm.decrypt({ ...request, data: good }, PATIENT_CALLER);
        expect(answer.equals(PLAINTEXT), call).toBe(true);
      }
      expect(one.ended).toEqual([]);
    },
  );
});

it("altered results are tested under every symmetric mechanism", () => {
  const symmetric = MECHANISMS.filter(({ kinds }) => !kinds.includes("rsa")).map(({ name }) => name);
  expect([...new Set(CASES.map(({ mechanism }) => mechanism))]).toEqual(symmetric);
});

it.each([0, 6, 7])(
  "a request fails, and never answers wrong, while every other result is altered (case %i)",
  async (index) => {
    const its = caseAt(index);
    const { one, request } = await prepare(its);
    const good = await one.hsm.encrypt(request, PATIENT_CALLER);
    // An HMAC that is altered twice in the same way cannot be distinguished from another key's.
    for (const output of its.outputs.filter((name) => name !== "C_Sign")) {
      token.fault.set(...its.lines, `${output} alter 0 p=0.5`);
      for (let round = 0; round < 3; round++) {
        const body = await one.hsm.encrypt(request, PATIENT_CALLER).catch(() => undefined);
        if (body !== undefined) {
          token.fault.set(...its.lines);
          expect((await one.hsm.decrypt({ ...request, data: body }, PATIENT_CALLER)).equals(PLAINTEXT)).toBe(
            true,
          );
          token.fault.set(...its.lines, `${output} alter 0 p=0.5`);
        }
        const answer = await one.hsm
          .decrypt({ ...request, data: good }, PATIENT_CALLER)
          .catch(() => PLAINTEXT);
        expect(answer.equals(PLAINTEXT)).toBe(true);
      }
    }
  },
);

it.each([0, 5, 6, 7])(
  "a local KEK is wrapped so that it can be unwrapped, and unwrapped right (case %i)",
  async (index) => {
    const its = caseAt(index);
    const { one, request } = await prepare(its);
    const { hsm } = one;
    const prover = new Prover(hsm, mechanismByName(its.mechanism).choice, SILENT);
    const records = await hsm.listKeks();
    await prover.prove(
      records.map((record) => ({ record, activation: 0 })),
      request.keyId,
    );
    const { localKeks } = new KekCalls({ hsm, prover, onHsmTrouble: () => undefined });
    for (const output of its.outputs) {
      const localKek = randomBytes(LOCAL_KEK_BYTES);
      token.fault.set(...its.lines, `${output} alter 0 count=1`);
      const wrapped = await localKeks.wrap(request.keyId, localKek);
      token.fault.set(...its.lines, `${output} alter 20 count=1`);
      expect((await localKeks.unwrap(request.keyId, wrapped)).equals(localKek), output).toBe(true);
    }
    expect(one.ended).toEqual([]);
  },
);

it("a token that keeps altering results fails the request and loses its host", async () => {
  const its = caseAt(0);
  const { one, request } = await prepare(its);
  token.fault.set(...its.lines, "C_Encrypt alter 3");
  expect(await codeOf(one.hsm.encrypt(request, PATIENT_CALLER))).not.toBe("done");
  expect(one.ended).toContain("device");
});

it("a valid ciphertext decrypts although its second attempt also fails with a general error", async () => {
  const its = caseAt(0);
  const { one, request } = await prepare(its);
  const good = await one.hsm.encrypt(request, PATIENT_CALLER);
  token.fault.set(...its.lines, "C_Decrypt rv 0x5 count=1", "C_Decrypt rv 0x5 skip=2 count=1");
  expect((await one.hsm.decrypt({ ...request, data: good }, PATIENT_CALLER)).equals(PLAINTEXT)).toBe(true);
  expect(one.ended).toEqual([]);
});

describe("one altered result while keys are read or mechanisms discovered", () => {
  it.each([
    ["AES-GCM", 0, "C_Encrypt alter 0 count=1"],
    ["AES-GCM", 0, "C_Encrypt alter 5 skip=1 count=1"],
    ["AES-GCM", 0, "C_Encrypt alter 0 skip=2 count=1"],
    ["HMAC", 5, "C_Sign alter 0 count=1"],
    ["HMAC", 5, "C_Sign alter 0 skip=1 count=1"],
  ])("%s: an altered result leaves the key_id as it is (case %i, %s)", async (_name, index, rule) => {
    const its = caseAt(index);
    const { one, request } = await prepare(its);
    for (let reading = 0; reading < 2; reading++) {
      token.fault.set(...its.lines, rule);
      expect((await one.hsm.listKeks()).map(({ keyId }) => keyId)).toEqual([request.keyId]);
    }
  });

  it("an altered attribute leaves a key's key_id and label as they are", async () => {
    const its = caseAt(0);
    const { one } = await prepare(its);
    const known = await one.hsm.listKeks();
    const seen = new Set<string>();
    // The label alone, which shows whose key it is, and all objects twice.
    for (let skip = 0; skip < 35; skip++) {
      token.fault.set(...its.lines, `C_GetAttributeValue alter 7 skip=${skip} count=1`);
      const read = await one.hsm.listKeks().catch(() => known);
      for (const record of read) expect(record, `attribute ${skip}`).toEqual(known[0]);
      seen.add(String(read.length));
    }
    expect(seen).toContain("1");
    expect(one.ended).toEqual([]);
  });

  it.each([
    ["C_Encrypt alter 0 count=1", 0],
    ["C_Encrypt alter 40 skip=1 count=1", 0],
    ["C_Decrypt alter 0 count=1", 0],
    ["C_EncryptInit alter 0 count=1", 1],
    ["C_Encrypt alter 9999 count=1", 2],
    ["C_Sign alter 0 count=1", 5],
    ["C_Sign alter 0 skip=1 count=1", 5],
    ["C_WrapKey alter 0 count=1", 6],
    ["C_GetAttributeValue alter 0 count=1", 6],
    ["C_Encrypt alter 0 count=1", 7],
    ["C_Decrypt alter 0 count=1", 7],
  ])("an altered result leads to the same mechanism (%s, case %i)", async (rule, index) => {
    const its = caseAt(index);
    const { request } = await prepare(its);
    // A host that has not discovered any mechanism yet.
    const { hsm } = token.open({ objectName: objectNameOf(its), requestTimeoutMs: 20_000 });
    await hsm.listKeks();
    token.fault.set(...its.lines, rule);
    const { choice } = mechanismByName(its.mechanism);
    const results = await hsm.probe(request.keyId, choice);
    expect(results).toMatchObject([{ mechanism: its.mechanism, works: true }]);
  });
});

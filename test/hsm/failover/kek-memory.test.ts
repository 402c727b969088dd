// What a failover set remembers of its KEKs across restarts, and what it makes of a file that somebody has changed.

import { readFileSync } from "node:fs";

import { beforeEach, expect, it } from "vitest";

import { KekMemory } from "../../../src/hsm/failover/kek-memory.js";
import type { CryptRequest } from "../../../src/hsm/port.js";
import type { Log } from "../../../src/log.js";
import { SILENT } from "../../support/fake-hsm.js";

const FROZEN: unknown = JSON.parse(
  readFileSync(new URL("../../vectors/failover-keks.json", import.meta.url), "utf8"),
);
const CKA_ID = "0a".repeat(16);
const KEK = { label: "kms-kek", ckaId: CKA_ID, keyId: `${CKA_ID}.n`, token: "first" };
const AES_GCM = 1;

let stored: object | undefined;
let isFull: boolean;
let warnings: string[];
const log: Log = { ...SILENT, warn: (_fields, message) => warnings.push(message) };

beforeEach(() => {
  stored = undefined;
  isFull = false;
  warnings = [];
});

function start(tokens = ["first", "second"]): KekMemory {
  const save = (document: object): void => {
    if (isFull) throw new Error("no space");
    stored = JSON.parse(JSON.stringify(document)) as object;
  };
  return new KekMemory({ load: () => stored, save }, tokens, log);
}

/** Makes a canary with a cipher that changes nothing. Returns what was to be encrypted. */
async function addCanary(memory: KekMemory, keyId: string): Promise<CryptRequest> {
  const requests: CryptRequest[] = [];
  await memory.addCanary(keyId, AES_GCM, (request) => {
    requests.push(request);
    return Promise.resolve(Buffer.from(request.data));
  });
  return requests[0] as CryptRequest;
}

it("remembers the key_id of each name and the canary of each KEK across a restart", async () => {
  const memory = start();
  memory.note(KEK);
  const { data, aad } = await addCanary(memory, KEK.keyId);
  const restarted = start();
  expect(restarted.under(KEK)).toEqual(KEK);
  expect(restarted.questionOf(KEK.keyId)).toEqual({ keyId: KEK.keyId, mechanism: AES_GCM, aad, data });
  expect(restarted.isAnswer(KEK.keyId, data)).toBe(true);
  expect(restarted.isAnswer(KEK.keyId, Buffer.alloc(32))).toBe(false);
  expect(restarted.isAnswer(`${CKA_ID}.c${"1".repeat(32)}`, data)).toBe(false);
});

it("the memory of a failover set reads what the first release wrote", () => {
  stored = FROZEN as object;
  const memory = start();
  expect(memory.under(KEK)).toEqual(KEK);
  expect(memory.questionOf(KEK.keyId)).toEqual({
    keyId: KEK.keyId,
    mechanism: AES_GCM,
    aad: Buffer.from(`kms-pkcs11 failover canary v1\x001\x00${KEK.keyId}`),
    data: Buffer.alloc(32, 7),
  });
  expect(memory.isAnswer(KEK.keyId, Buffer.alloc(32, 7))).toBe(true);
  expect(warnings).toEqual([]);
});

it("the memory of a failover set does not store a canary's random bytes in clear", async () => {
  const memory = start();
  const plaintext: Uint8Array[] = [];
  await memory.addCanary(KEK.keyId, AES_GCM, ({ data }) => {
    plaintext.push(data);
    return Promise.resolve(Buffer.alloc(60));
  });
  for (const form of ["hex", "base64"] as const) {
    expect(JSON.stringify(stored)).not.toContain(Buffer.from(plaintext[0] ?? []).toString(form));
  }
});

it("makes one canary for each KEK", async () => {
  const memory = start();
  await addCanary(memory, KEK.keyId);
  expect(await addCanary(memory, KEK.keyId)).toBeUndefined();
  expect(memory.provable).toEqual([KEK.keyId]);
});

it("forgets what a token showed that is no longer configured, and what no token shows", async () => {
  const memory = start();
  memory.note(KEK);
  await addCanary(memory, KEK.keyId);
  expect(start(["second", "third"]).under(KEK)).toBeUndefined();
  const restarted = start();
  restarted.prune(
    () => false,
    () => false,
  );
  expect([restarted.under(KEK), restarted.provable]).toEqual([undefined, []]);
});

it.each([
  ["another version", { version: 2, keks: [], canaries: [] }],
  ["a missing list", { version: 1, keks: [] }],
  [
    "a canary without a digest",
    { version: 1, keks: [], canaries: [{ keyId: "0.n", mechanism: 1, body: "" }] },
  ],
  [
    "a mechanism that cannot be",
    { version: 1, keks: [], canaries: [{ keyId: "0.n", mechanism: 64, body: "", digest: "0".repeat(64) }] },
  ],
])("starts with nothing and a warning if the file has %s", (_what, document) => {
  stored = document;
  const memory = start();
  expect([memory.provable, memory.under(KEK), warnings.length]).toEqual([[], undefined, 1]);
});

it("warns once while the file cannot be written, and writes it as soon as it can", () => {
  const memory = start();
  isFull = true;
  memory.note(KEK);
  memory.save();
  memory.save();
  expect(warnings).toHaveLength(1);
  isFull = false;
  memory.save();
  expect(start().under(KEK)).toEqual(KEK);
});

// Ciphertexts that every later version must decrypt, and key_ids that it must compute; see README.md in this folder.

import { createCipheriv, createHash, randomInt } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";

import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { mechanismById, MECHANISMS } from "../../src/hsm/mechanisms.js";
import { associatedData, encodeEnvelope, LOCAL_KEK } from "../../src/provider/envelope.js";
import type { DecryptQuestion } from "../../src/provider/kms.js";
import { RunningProvider } from "../../src/provider/running-provider.js";
import { grpcStatusOf } from "../../src/server/grpc-status.js";
import { inBatches } from "../support/in-batches.js";
import { Pkcs11Client } from "../support/pkcs11-client.js";
import { usePlugin } from "../support/plugin-fixture.js";
import type { PluginSettings } from "../support/plugin-process.js";
import { providerOptions } from "../support/provider-options.js";
import { tokenUri } from "../support/token.js";
import { openToken, type OpenedToken } from "../support/token-hsm.js";
import { waitFor } from "../support/wait.js";

interface FrozenKek {
  readonly keyId: string;
  readonly label: string;
  /** In hexadecimal, like all bytes in this file. */
  readonly ckaId: string;
  readonly aes?: string;
  readonly hmac?: string;
}

interface Vector {
  readonly name: string;
  readonly keyId: string;
  readonly plaintext: string;
  readonly ciphertext: string;
  readonly annotations: Readonly<Record<string, string>>;
}

const KEKS_FILE = new URL("keks.json", import.meta.url);
const VECTORS_FILE = new URL("envelopes.json", import.meta.url);
const SEED = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const ADD = process.env["ADD_VECTORS"] !== undefined;

interface Wanted {
  readonly name: string;
  readonly ckaId: string;
  readonly settings: PluginSettings;
  readonly plaintext?: string;
}

/**
 * The rows of format 1: which KEK (by CKA_ID), under which settings. No release writes this format any more: add no
 * row.
 */
const MADE: readonly Wanted[] = [
  { name: "aes-gcm", ckaId: "0a01", settings: { mechanism: "aes-gcm" } },
  { name: "aes-gcm, one byte", ckaId: "0a01", settings: { mechanism: "aes-gcm" }, plaintext: "ff" },
  { name: "aes-gcm, 768 bytes", ckaId: "0a01", settings: { mechanism: "aes-gcm" }, plaintext: SEED.repeat(24) },
  { name: "hmac-kdf", ckaId: "0a02", settings: { mechanism: "hmac-kdf" } },
  { name: "hmac-kdf, pair", ckaId: "0a03", settings: { mechanism: "hmac-kdf" } },
  { name: "aes-kwp", ckaId: "0a01", settings: { mechanism: "aes-kwp" } },
  { name: "aes-kwp, odd length", ckaId: "0a01", settings: { mechanism: "aes-kwp" }, plaintext: "0102030405" },
  { name: "aes-cbc-hmac", ckaId: "0a03", settings: { mechanism: "aes-cbc-hmac" } },
  { name: "aes-cbc-hmac, whole block", ckaId: "0a03", settings: { mechanism: "aes-cbc-hmac" }, plaintext: "00".repeat(16) },
  { name: "local-kek", ckaId: "0a01", settings: { mode: "local-kek", mechanism: "aes-gcm" } },
  { name: "local-kek under hmac-kdf", ckaId: "0a02", settings: { mode: "local-kek", mechanism: "hmac-kdf" } },
  { name: "local-kek under aes-kwp", ckaId: "0a01", settings: { mode: "local-kek", mechanism: "aes-kwp" } },
  { name: "local-kek under aes-cbc-hmac", ckaId: "0a03", settings: { mode: "local-kek", mechanism: "aes-cbc-hmac" } },
];
/** The rows for mechanisms that only format 2 has. */
const MADE_IN_FORMAT_2: readonly Wanted[] = [];
/** The rows of each format. */
const WANTED: readonly Wanted[] = [
  ...MADE,
  ...[...MADE, ...MADE_IN_FORMAT_2].map((one) => ({ ...one, name: `${one.name}, format 2` })),
];
/** The mechanisms of format 1. */
const FORMAT_1_IDS = [1, 2, 3, 4, 5, 6, 7];

const read = (file: URL): unknown => JSON.parse(readFileSync(file, "utf8"));
const keks = read(KEKS_FILE) as FrozenKek[];
const vectors = read(VECTORS_FILE) as Vector[];

const kms = usePlugin(
  { cache: { entries: 0 } },
  {
    token: {},
    object: "frozen",
    async prepare() {
      await importKeks();
      if (ADD) await addVectors();
    },
  },
);

async function importKeks(): Promise<void> {
  const child = new Pkcs11Client(kms.token);
  try {
    await child.open();
    for (const kek of keks) {
      await child.run(({ p11, module, state }, { label, ckaId, aes, hmac }) => {
        const common = [
          { type: p11.CKA_CLASS, value: p11.CKO_SECRET_KEY },
          { type: p11.CKA_TOKEN, value: true },
          { type: p11.CKA_PRIVATE, value: true },
          { type: p11.CKA_SENSITIVE, value: true },
          { type: p11.CKA_EXTRACTABLE, value: false },
          { type: p11.CKA_LABEL, value: label },
          { type: p11.CKA_ID, value: Buffer.from(ckaId, "hex") },
        ];
        const create = (keyType: number, value: string, uses: number[]): void => {
          module.C_CreateObject(state.session, [
            ...common,
            { type: p11.CKA_KEY_TYPE, value: keyType },
            { type: p11.CKA_VALUE, value: Buffer.from(value, "hex") },
            ...uses.map((type) => ({ type, value: true })),
          ]);
        };
        if (aes !== undefined)
          {create(p11.CKK_AES, aes, [p11.CKA_ENCRYPT, p11.CKA_DECRYPT, p11.CKA_WRAP, p11.CKA_UNWRAP]);}
        if (hmac !== undefined) create(p11.CKK_GENERIC_SECRET, hmac, [p11.CKA_SIGN, p11.CKA_VERIFY]);
      }, kek);
    }
  } finally {
    await child.kill();
  }
}

/** Returns what a token that generates its own IV would have made of the seed. */
function computed({ keyId, aes = "" }: FrozenKek, version: 1 | 2, mechanism: number, ivBytes: number): Vector {
  const iv = Buffer.alloc(ivBytes, 0xa5);
  const cipher = createCipheriv("aes-256-gcm", Buffer.from(aes, "hex"), iv, { authTagLength: 16 });
  cipher.setAAD(associatedData(version, mechanism, keyId));
  const seed = Buffer.from(SEED, "hex");
  const digest = createHash("sha256").update("kms-pkcs11 plaintext v1").update(seed).digest();
  const plain = version === 1 ? seed : Buffer.concat([digest.subarray(0, 8), seed]);
  const sealed = [cipher.update(plain), cipher.final(), cipher.getAuthTag()];
  const body = Buffer.concat([Buffer.of(ivBytes), iv, ...sealed]);
  const ciphertext = encodeEnvelope(version, mechanism, body);
  const name = `${mechanismById(mechanism)?.name ?? ""}, IV of ${ivBytes} bytes${version === 2 ? ", format 2" : ""}`;
  return { name, keyId, plaintext: SEED, ciphertext: ciphertext.toString("hex"), annotations: {} };
}

async function sealed({ name, ckaId, settings, plaintext = SEED }: Wanted): Promise<Vector> {
  const id = ckaId.replace(/../g, "%$&");
  const uri = tokenUri(kms.token, "frozen").replace("object=frozen", `object=frozen;id=${id}`);
  const its = await kms.add({ ...settings, keys: { uri } });
  try {
    await its.start();
    const { ciphertext, keyId, annotations } = await its.client.encrypt(Buffer.from(plaintext, "hex"), "vector");
    const hex = Object.entries(annotations).map(([key, value]) => [key, value.toString("hex")] as const);
    const bytes = ciphertext.toString("hex");
    return { name, keyId, plaintext, ciphertext: bytes, annotations: Object.fromEntries(hex) };
  } finally {
    await its.stop();
  }
}

/** Appends what is missing; existing vectors stay unchanged. */
async function addVectors(): Promise<void> {
  const [first] = keks;
  const made: Vector[] = [];
  for (const wanted of WANTED) if (isMissing(wanted.name)) made.push(await sealed(wanted));
  const ownIv = ([1, 2] as const).flatMap((version) =>
    [2, 3, 4].flatMap((id) => [12, 16].map((bytes) => first && computed(first, version, id, bytes))),
  );
  for (const vector of ownIv) if (vector !== undefined && isMissing(vector.name)) made.push(vector);
  vectors.push(...made);
  writeFileSync(VECTORS_FILE, `${JSON.stringify(vectors, null, 2)}\n`);
}

const isMissing = (name: string): boolean => !vectors.some((vector) => vector.name === name);

const question = ({ ciphertext, keyId, annotations }: Vector) => ({
  keyId,
  ciphertext: Buffer.from(ciphertext, "hex"),
  annotations: Object.fromEntries(
    Object.entries(annotations).map(([key, value]) => [key, Buffer.from(value, "hex")]),
  ),
});

/** A provider in this process: thousands of refusals through a socket would cost more than the HSM's part in them. */
let opened: OpenedToken;
let running: RunningProvider;

beforeAll(async () => {
  opened = openToken(kms.token, { objectName: "frozen" });
  running = new RunningProvider(
    providerOptions(opened.hsm, {
      policy: { objectName: "frozen", allowUnprotected: [] },
      requestTimeoutMs: 20_000,
      cache: { entries: 0 },
    }),
  );
  running.start();
  await waitFor(() => running.readiness().ready, { what: "proofs of the KEKs", timeoutMs: 60_000 });
});

afterAll(async () => {
  running.stop();
  await opened.hsm.stop(500);
});

/** Returns the gRPC status with which the plugin answers; OK if it decrypts. */
const statusOf = (asked: DecryptQuestion): Promise<number> =>
  running.provider.decrypt(asked, { uid: "vector", startedAt: performance.now(), cancelled: false }).then(
    () => status.OK,
    (error: unknown) => grpcStatusOf(KmsError.from(error).code),
  );

describe("frozen ciphertexts", () => {
  it("ciphertexts exist for every symmetric mechanism in its formats, and for the local KEK", () => {
    const of = (version: number): number[] => {
      const made = vectors.map(({ ciphertext }) => Buffer.from(ciphertext.slice(0, 4), "hex"));
      const ids = new Set(made.filter(([first]) => first === version).map(([, id = 0]) => id));
      return [...ids].sort((a, b) => a - b);
    };
    const table = MECHANISMS.filter(({ choice }) => choice !== "rsa-oaep").map(({ id }) => id);
    expect(of(1)).toEqual([...FORMAT_1_IDS, LOCAL_KEK]);
    expect(of(2)).toEqual(table);
    expect(WANTED.filter(({ name }) => isMissing(name))).toEqual([]);
  });

  it.each(vectors)("a frozen ciphertext decrypts: $name", async (vector) => {
    expect((await kms.client.decrypt(question(vector), "vector")).toString("hex")).toBe(vector.plaintext);
  });

  it.each(vectors)("a frozen ciphertext is refused under another KEK's key_id: $name", async (vector) => {
    for (const { keyId } of keks.filter((kek) => kek.keyId !== vector.keyId))
      {await expect(kms.client.decrypt({ ...question(vector), keyId }, "vector")).rejects.toThrow(/^INVALID_ARGUMENT/);}
  });

  it.each(vectors)("a frozen ciphertext is refused with any byte changed, the mechanism to any value: $name", async (vector) => {
    const asked = question(vector);
    const { ciphertext } = asked;
    const changes = [1, 2, 3, 0xff].map((mask) => ({ at: 0, mask }));
    for (let mask = 1; mask < 64; mask++) changes.push({ at: 1, mask });
    const step = Math.ceil(ciphertext.length / 120);
    for (let at = 2; at < ciphertext.length; at += step) changes.push({ at, mask: randomInt(1, 256) });
    await inBatches(changes, async ({ at, mask }) => {
      const changed = Buffer.from(ciphertext);
      changed[at] = (changed[at] ?? 0) ^ mask;
      const answer = await statusOf({ ...asked, ciphertext: changed });
      expect(answer, `byte ${at} changed by ${mask}`).toBe(status.INVALID_ARGUMENT);
    });
  });

  it.each(vectors.filter(({ annotations }) => Object.keys(annotations).length > 0))(
    "a frozen ciphertext is refused with any byte of its local KEK changed: $name",
    async (vector) => {
      const asked = question(vector);
      for (const [name, wrapped] of Object.entries(asked.annotations)) {
        await inBatches([...wrapped.keys()], async (at) => {
          const changed = Buffer.from(wrapped);
          changed[at] = (changed[at] ?? 0) ^ randomInt(1, 256);
          const answer = await statusOf({ ...asked, annotations: { [name]: changed } });
          expect(answer, `byte ${at}`).toBe(status.INVALID_ARGUMENT);
        });
      }
    },
  );

  it("the KEKs of frozen ciphertexts keep their key_ids", async () => {
    expect((await kms.client.status()).keyId).toBe(keks.at(-1)?.keyId);
    expect(new Set(vectors.map(({ keyId }) => keyId))).toEqual(new Set(keks.map(({ keyId }) => keyId)));
  });
});

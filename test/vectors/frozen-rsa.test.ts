// Ciphertexts of `rsa-oaep` that every later version must decrypt, and key_ids that it must compute; see README.md in
// this folder. SoftHSM 2.6 supports SHA-1 only, NSS softokn SHA-256 too.

import { constants, createHash, createPrivateKey, createPublicKey, publicEncrypt, sign, type JsonWebKey } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { PATIENT_CALLER } from "../../src/hsm/port.js";
import { associatedData, encodeEnvelope, parseEnvelope } from "../../src/provider/envelope.js";
import { KekCalls } from "../../src/provider/kek-calls.js";
import { Prover } from "../../src/provider/prover.js";
import { SILENT } from "../support/fake-hsm.js";
import { createNss } from "../support/nss.js";
import { Pkcs11Client } from "../support/pkcs11-client.js";
import { createSoftHsm } from "../support/softhsm.js";
import type { TestToken } from "../support/token.js";
import { openToken, type OpenedToken } from "../support/token-hsm.js";

interface FrozenKek {
  readonly keyId: string;
  readonly label: string;
  /** In hexadecimal, like all bytes in this file. */
  readonly decrypts: { readonly ckaId: string; readonly key: JsonWebKey };
  readonly signs: { readonly ckaId: string; readonly key: JsonWebKey };
}

interface Vector {
  readonly name: string;
  readonly keyId: string;
  readonly plaintext: string;
  readonly ciphertext: string;
  /** Whether this is a wrapped local KEK. */
  readonly wraps?: true;
}

const KEKS_FILE = new URL("rsa-keks.json", import.meta.url);
const VECTORS_FILE = new URL("rsa-envelopes.json", import.meta.url);
const SEED = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const NAME = "frozen-rsa";

const read = (file: URL): unknown => JSON.parse(readFileSync(file, "utf8"));
const keks = read(KEKS_FILE) as FrozenKek[];
const vectors = read(VECTORS_FILE) as Vector[];

/** Returns what the plugin makes of a plaintext, from the layout in src/token-host/mechanisms/rsa-oaep.ts. */
function computed(kek: FrozenKek, mechanism: 8 | 9, plaintext: string, wraps: boolean): Vector {
  const hash = mechanism === 8 ? "sha256" : "sha1";
  const label = mechanism === 8 ? "rsa-oaep" : "rsa-oaep-sha1";
  const text = Buffer.from(plaintext, "hex");
  const digest = createHash("sha256").update("kms-pkcs11 plaintext v1").update(text).digest().subarray(0, 8);
  const key = createPublicKey({ key: kek.decrypts.key, format: "jwk" });
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  const sealed = publicEncrypt({ key, padding, oaepHash: hash }, Buffer.concat([digest, text]));
  const aad = [associatedData(2, mechanism, kek.keyId), ...(wraps ? [Buffer.from("\0local-kek")] : [])];
  const framed = [Buffer.concat(aad), sealed].flatMap((part) => [Buffer.alloc(4), part]);
  for (let at = 0; at < framed.length; at += 2) framed[at]?.writeUInt32BE(framed[at + 1]?.length ?? 0);
  const signature = sign("sha256", Buffer.concat([Buffer.from(`kms-pkcs11 ${label} v1`), ...framed]), {
    key: createPrivateKey({ key: kek.signs.key, format: "jwk" }),
    padding: constants.RSA_PKCS1_PSS_PADDING,
    saltLength: 32,
  });
  const bytes = encodeEnvelope(2, mechanism, Buffer.concat([sealed, signature]));
  const bits = String(8 * sealed.length);
  const name = `${label}, ${bits} bits, ${text.length} bytes${wraps ? ", local KEK" : ""}`;
  const vector = { name, keyId: kek.keyId, plaintext, ciphertext: bytes.toString("hex") };
  return wraps ? { ...vector, wraps } : vector;
}

/** Appends the missing vectors and changes no other. */
function addVectors(): void {
  const made = keks.flatMap((kek) =>
    ([8, 9] as const).flatMap((id) => [
      computed(kek, id, SEED, false),
      computed(kek, id, "ff", false),
      computed(kek, id, SEED, true),
    ]),
  );
  vectors.push(...made.filter(({ name }) => !vectors.some((vector) => vector.name === name)));
  writeFileSync(VECTORS_FILE, `${JSON.stringify(vectors, null, 2)}\n`);
}

if (process.env["ADD_VECTORS"] !== undefined) addVectors();

async function importKeks(token: TestToken): Promise<void> {
  const client = new Pkcs11Client(token);
  await client.open();
  for (const { label, decrypts, signs } of keks) {
    for (const [half, use] of [[decrypts, "CKA_DECRYPT"], [signs, "CKA_SIGN"]] as const) {
      await client.run(
        ({ p11, module, state }, one) => {
          const bytes = (name: string): Buffer => Buffer.from((one.half.key as Record<string, string>)[name] ?? "", "base64url");
          const uses = ["CKA_DECRYPT", "CKA_SIGN", "CKA_SIGN_RECOVER", "CKA_UNWRAP"] as const;
          module.C_CreateObject(state.session, [
            { type: p11.CKA_CLASS, value: p11.CKO_PRIVATE_KEY },
            { type: p11.CKA_KEY_TYPE, value: p11.CKK_RSA },
            { type: p11.CKA_TOKEN, value: true },
            { type: p11.CKA_PRIVATE, value: true },
            { type: p11.CKA_SENSITIVE, value: true },
            { type: p11.CKA_EXTRACTABLE, value: false },
            { type: p11.CKA_LABEL, value: one.label },
            { type: p11.CKA_ID, value: Buffer.from(one.half.ckaId, "hex") },
            ...uses.map((name) => ({ type: p11[name], value: name === one.use })),
            { type: p11.CKA_MODULUS, value: bytes("n") },
            { type: p11.CKA_PUBLIC_EXPONENT, value: bytes("e") },
            { type: p11.CKA_PRIVATE_EXPONENT, value: bytes("d") },
            { type: p11.CKA_PRIME_1, value: bytes("p") },
            { type: p11.CKA_PRIME_2, value: bytes("q") },
            { type: p11.CKA_EXPONENT_1, value: bytes("dp") },
            { type: p11.CKA_EXPONENT_2, value: bytes("dq") },
            { type: p11.CKA_COEFFICIENT, value: bytes("qi") },
          ]);
        },
        { half, use, label },
      );
    }
  }
  await client.exit();
}

describe.each([
  ["NSS softokn", createNss, vectors],
  ["SoftHSM", createSoftHsm, vectors.filter(({ name }) => name.includes("sha1"))],
] as const)("frozen RSA ciphertexts on %s", (_name, create, its) => {
  let token: TestToken;
  let opened: OpenedToken;
  let calls: KekCalls;

  beforeAll(async () => {
    token = create();
    await importKeks(token);
    opened = openToken(token, { objectName: NAME });
    const { hsm } = opened;
    calls = new KekCalls({ hsm, prover: new Prover(hsm, "auto", SILENT), onHsmTrouble: () => undefined });
  }, 60_000);

  afterAll(async () => {
    await opened.hsm.stop(200);
    token.remove();
  });

  async function decrypted({ keyId, wraps }: Vector, ciphertext: Uint8Array): Promise<string> {
    if (wraps === true) return (await calls.localKeks.unwrap(keyId, ciphertext)).toString("hex");
    const envelope = parseEnvelope(ciphertext);
    if (envelope.kind !== "direct") throw new Error("not a direct envelope");
    return (await calls.decrypt(keyId, envelope, PATIENT_CALLER)).toString("hex");
  }

  it("the KEKs of frozen RSA ciphertexts keep their key_ids", async () => {
    const listed = await opened.hsm.listKeks();
    expect(listed.map(({ keyId }) => keyId).sort()).toEqual(keks.map(({ keyId }) => keyId).sort());
    expect(listed.flatMap((kek) => kek.unprotected)).toEqual([]);
  });

  it.each(its)("a frozen RSA ciphertext opens: $name", async (vector) => {
    expect(await decrypted(vector, Buffer.from(vector.ciphertext, "hex"))).toBe(vector.plaintext);
  });

  it.each(its)("a frozen RSA ciphertext is refused with any part changed: $name", async (vector) => {
    const ciphertext = Buffer.from(vector.ciphertext, "hex");
    const refused = { code: expect.stringMatching(/^(NOT_AUTHENTIC|INPUT_INVALID)$/) as string };
    for (let at = 0; at < ciphertext.length; at += at < 2 ? 1 : 61) {
      const changed = Buffer.from(ciphertext);
      changed[at] = (changed[at] ?? 0) ^ 1;
      const asking = Promise.resolve().then(() => decrypted(vector, changed));
      await expect(asking, `byte ${at}`).rejects.toMatchObject(refused);
    }
    for (const { keyId } of keks.filter((kek) => kek.keyId !== vector.keyId)) {
      await expect(decrypted({ ...vector, keyId }, ciphertext)).rejects.toMatchObject(refused);
    }
  });
});

it("there is a frozen ciphertext for both RSA mechanisms and both lengths of keys", () => {
  const made = vectors.map(({ ciphertext }) => `${ciphertext.slice(0, 4)} ${ciphertext.length / 2}`);
  expect(new Set(made)).toEqual(new Set(["0208 514", "0209 514", "0208 770", "0209 770"]));
  expect(vectors.every(({ ciphertext }) => ciphertext.length / 2 <= 1023)).toBe(true);
});

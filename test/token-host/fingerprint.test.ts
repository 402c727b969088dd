// Which fingerprints an AES key gets from a token whose calls fail for a while, or always. The token is a stub that
// computes with node:crypto and fails by mechanism.

import { createCipheriv } from "node:crypto";

import type { Handle, Mechanism, PKCS11 } from "pkcs11js";
import pkcs11js from "pkcs11js";
import { expect, it } from "vitest";

import { TokenFault } from "../../src/token-host/ckr.js";
import { FingerprintMemory, fingerprintsOfAes } from "../../src/token-host/fingerprint.js";
import { TokenSession } from "../../src/token-host/session.js";

const CKR_GENERAL_ERROR = 0x05;
const CKR_MECHANISM_INVALID = 0x70;
const { CKM_AES_CBC, CKM_AES_ECB, CKM_AES_GCM } = pkcs11js;
const KEY = Buffer.alloc(32, 7);
const HANDLE: Handle = Buffer.alloc(8);

/** The CK_RV with which C_EncryptInit fails, or undefined. */
type Failure = (mechanism: number) => number | undefined;

interface GcmParameters {
  readonly iv: Buffer;
  readonly aad: Buffer;
}

function encrypt({ mechanism, parameter }: Mechanism, data: Buffer): Buffer {
  if (mechanism === CKM_AES_GCM) {
    const { iv, aad } = parameter as unknown as GcmParameters;
    const cipher = createCipheriv("aes-256-gcm", KEY, iv).setAAD(aad);
    return Buffer.concat([cipher.update(data), cipher.final(), cipher.getAuthTag()]);
  }
  const cipher = createCipheriv("aes-256-ecb", KEY, null).setAutoPadding(false);
  return Buffer.concat([cipher.update(data), cipher.final()]);
}

/** Returns the result of C_Encrypt. */
type Answer = (mechanism: Mechanism, encrypted: Buffer) => Buffer;

const unchanged: Answer = (_mechanism, encrypted) => encrypted;

function sessionWith(fails: Failure, answer = unchanged): TokenSession {
  let active: Mechanism | undefined;
  const lib = {
    C_OpenSession: () => Buffer.alloc(8),
    C_CloseSession: () => undefined,
    C_EncryptInit: (_session: Handle, mechanism: Mechanism) => {
      const rv = fails(mechanism.mechanism);
      if (rv !== undefined) throw Object.assign(new Error("stub"), { code: rv });
      active = mechanism;
    },
    C_Encrypt: (_session: Handle, data: Buffer) => {
      if (active === undefined) throw new Error("C_Encrypt before C_EncryptInit");
      return answer(active, encrypt(active, data));
    },
  };
  return new TokenSession(lib as unknown as PKCS11, HANDLE);
}

/** Returns the methods of the fingerprints, such as "cg", or "fault". */
function methodsOf(fails: Failure, memory = new FingerprintMemory(), answer = unchanged): string {
  try {
    return fingerprintsOfAes(sessionWith(fails, answer), HANDLE, memory)
      .map(({ method }) => method)
      .join("");
  } catch (error) {
    if (error instanceof TokenFault) return "fault";
    throw error;
  }
}

const never: Failure = () => undefined;
const always =
  (rv: number, ...mechanisms: number[]): Failure =>
  (mechanism) =>
    mechanisms.includes(mechanism) ? rv : undefined;

it("an AES key has the fingerprints of every mechanism it performs, AES of one block first", () => {
  expect(methodsOf(never)).toBe("cg");
});

it("general errors in a row fail the reading or change nothing, however many there are", () => {
  const outcomes = new Set<string>();
  for (let skip = 0; skip < 8; skip++) {
    for (let count = 0; count < 60; count++) {
      let call = 0;
      const fails: Failure = () => {
        const at = call++;
        return at >= skip && at < skip + count ? CKR_GENERAL_ERROR : undefined;
      };
      outcomes.add(methodsOf(fails));
    }
  }
  expect([...outcomes].sort()).toEqual(["cg", "fault"]);
});

it("general errors at random never leave a fingerprint out", () => {
  let state = 1;
  const random = (): number => (state = (state * 48_271) % 0x7fffffff) / 0x7fffffff;
  for (let round = 0; round < 300; round++) {
    expect(methodsOf(() => (random() < 0.6 ? CKR_GENERAL_ERROR : undefined))).toMatch(/^(cg|fault)$/);
  }
});

it.each([
  ["CBC and ECB", "g", [CKM_AES_CBC, CKM_AES_ECB]],
  ["CBC", "cg", [CKM_AES_CBC]],
  ["GCM", "c", [CKM_AES_GCM]],
])(
  "a token that always answers a general error to %s names keys by the other mechanism",
  (_, by, mechanisms) => {
    const memory = new FingerprintMemory();
    const fails = always(CKR_GENERAL_ERROR, ...mechanisms);
    for (let reading = 0; reading < 3; reading++) expect(methodsOf(fails, memory)).toBe(by);
  },
);

it.each([
  ["CBC and ECB", [CKM_AES_CBC, CKM_AES_ECB]],
  ["GCM", [CKM_AES_GCM]],
])("a key keeps its fingerprints when %s begins to answer a general error", (_, mechanisms) => {
  const memory = new FingerprintMemory();
  expect(methodsOf(never, memory)).toBe("cg");
  expect(methodsOf(always(CKR_GENERAL_ERROR, ...mechanisms), memory)).toBe("cg");
});

it("a mechanism that begins to work after general errors gives the key its first name", () => {
  const memory = new FingerprintMemory();
  expect(methodsOf(always(CKR_GENERAL_ERROR, CKM_AES_CBC, CKM_AES_ECB), memory)).toBe("g");
  expect(methodsOf(never, memory)).toBe("cg");
});

it("a definite refusal takes the fingerprint away from a key that had it", () => {
  const memory = new FingerprintMemory();
  expect(methodsOf(never, memory)).toBe("cg");
  expect(methodsOf(always(CKR_MECHANISM_INVALID, CKM_AES_CBC, CKM_AES_ECB), memory)).toBe("g");
});

it("general errors from every mechanism are a fault", () => {
  expect(methodsOf(() => CKR_GENERAL_ERROR)).toBe("fault");
});

it("a block of a wrong length with CKR_OK is a fault, never another name for the key", () => {
  const wrongBlock: Answer = ({ mechanism }, encrypted) =>
    mechanism === CKM_AES_GCM ? encrypted : encrypted.subarray(0, 8);
  expect(methodsOf(never, new FingerprintMemory(), wrongBlock)).toBe("fault");
});

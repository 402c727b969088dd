// A large number of operations of all kinds on the token, 32 at a time, without faults: half of them on a token that
// answers at once, half on a token slow enough to get sixteen sessions, each in its own thread. Fails on a crash, on a
// wrong answer and on memory growth.

import { randomBytes, randomInt } from "node:crypto";

import { afterAll, beforeAll, expect, test } from "vitest";

import { KmsError } from "../../src/errors.js";
import { PATIENT_CALLER } from "../../src/hsm/port.js";
import { FaultModule } from "../support/fault-module.js";
import { residentBytes } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { openToken, type OpenedToken } from "../support/token-hsm.js";
import { waitFor } from "../support/wait.js";

const OPERATIONS = Number(process.env["SOAK_OPERATIONS"] ?? "50000");
const CALLERS = 32;
const SESSIONS = 16;
const AES_GCM = 1;
const AAD = Buffer.from("associated data");
const KEPT_PER_CALLER = 16;
/**
 * The limit on the hosts' growth in the second half: the heap of a session's thread that has made few calls still
 * grows. In a long run a leak in every call would exceed this by far.
 */
const MOST_GROWTH_BYTES = SESSIONS * 5 * 2 ** 20;

let softHsm: SoftHsm;
let fault: FaultModule;
let token: OpenedToken;
let keyId: string;

beforeAll(async () => {
  softHsm = createSoftHsm();
  fault = new FaultModule(softHsm);
  token = openToken(fault, { hosts: 2, sessions: SESSIONS, requestTimeoutMs: 2_900 });
  keyId = (
    await token.hsm.generate({ label: "kms-kek@20260101T000000Z", ckaId: "0a".repeat(16), kind: "aes" })
  ).keyId;
  await waitFor(() => token.hsm.readyHosts === 2, { what: "two ready hosts", timeoutMs: 20_000 });
});

afterAll(async () => {
  await token.hsm.stop(500);
  fault.remove();
  softHsm.remove();
});

const request = (data: Uint8Array) => ({ keyId, mechanism: AES_GCM, aad: AAD, data });

interface Kept {
  readonly plaintext: Buffer;
  readonly body: Buffer;
}

/** One caller: it encrypts, decrypts what it encrypted, sends changed ciphertexts, and reads the keyring. */
class Caller {
  readonly #kept: Kept[] = [];

  async turn(number: number): Promise<void> {
    const kept = this.#kept[randomInt(KEPT_PER_CALLER)];
    if (number % 1_000 === 0) await this.#read();
    else if (kept === undefined || number % 3 === 0) await this.#encrypt();
    else if (number % 7 === 0) await this.#decryptChanged(kept);
    else await this.#decrypt(kept);
  }

  async #read(): Promise<void> {
    expect((await token.hsm.listKeks()).map((record) => record.keyId)).toEqual([keyId]);
  }

  async #encrypt(): Promise<void> {
    const plaintext = randomBytes(randomInt(1, 769));
    const body = await token.hsm.encrypt(request(plaintext), PATIENT_CALLER);
    this.#kept[randomInt(KEPT_PER_CALLER)] = { plaintext, body };
  }

  async #decrypt({ plaintext, body }: Kept): Promise<void> {
    const opened = await token.hsm.decrypt(request(body), PATIENT_CALLER);
    if (!opened.equals(plaintext)) throw new Error("another plaintext came back");
  }

  async #decryptChanged({ body }: Kept): Promise<void> {
    const changed = Buffer.from(body);
    const at = randomInt(changed.length);
    changed[at] = (changed[at] ?? 0) ^ (1 << randomInt(8));
    const code = await token.hsm.decrypt(request(changed), PATIENT_CALLER).then(
      () => "opened",
      (error: unknown) => KmsError.from(error).code,
    );
    if (code !== "NOT_AUTHENTIC" && code !== "INPUT_INVALID") throw new Error(`a changed body: ${code}`);
  }
}

/** Performs this many operations. Returns how long they took, in s. */
async function operate(operations: number): Promise<number> {
  const startedAt = performance.now();
  let next = 0;
  const call = async (): Promise<void> => {
    const caller = new Caller();
    while (next < operations) await caller.turn(++next);
  };
  await Promise.all(Array.from({ length: CALLERS }, call));
  return (performance.now() - startedAt) / 1_000;
}

const hostBytes = (): number => token.hsm.pids.reduce((sum, pid) => sum + residentBytes(pid), 0);
const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;

test.each([
  ["answers at once", []],
  ["takes 1 ms a call", ["C_EncryptInit sleep 1", "C_DecryptInit sleep 1"]],
])("mixed operations on a token that %s", async (what, lines) => {
  fault.set(...lines);
  const pids = [...token.hsm.pids].sort();
  const quarter = Math.ceil(OPERATIONS / 4);
  const first = await operate(quarter);
  const halfWay = hostBytes();
  const second = await operate(quarter);
  const atEnd = hostBytes();
  console.log(
    `${2 * quarter} operations, ${CALLERS} at a time, on a token that ${what}: ` +
      `${((2 * quarter) / (first + second)).toFixed(0)} a second over ${token.hsm.sessions} sessions of two hosts; ` +
      `the hosts' memory ${mebibytes(halfWay)} half-way, ${mebibytes(atEnd)} in the end`,
  );
  expect([...token.hsm.pids].sort()).toEqual(pids);
  expect(token.ended).toEqual([]);
  expect(atEnd - halfWay).toBeLessThan(MOST_GROWTH_BYTES);
});

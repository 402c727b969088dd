// Two tokens that show one KEK under different key_ids, since only one of them computes a fingerprint: the other decrypts once
// it has opened a canary, and a key of another value never does.

import { afterEach, beforeEach, expect, it } from "vitest";

import { FailoverHsm } from "../../../src/hsm/failover/failover.js";
import type { KekMemoryStore } from "../../../src/hsm/failover/kek-memory.js";
import { PATIENT_CALLER, PROOF_CALLER, type CryptRequest } from "../../../src/hsm/port.js";
import { associatedData, CHECKED_FORMAT, PLAIN_FORMAT } from "../../../src/provider/envelope.js";
import { SILENT } from "../../support/fake-hsm.js";
import { codeOf } from "../../support/faulty-token.js";
import { FaultModule } from "../../support/fault-module.js";
import { createSoftHsm, type SoftHsm } from "../../support/softhsm.js";
import { SoftHsmClone } from "../../support/softhsm-clone.js";
import type { TestToken } from "../../support/token.js";
import { openToken, type OpenedToken } from "../../support/token-hsm.js";
import { waitFor } from "../../support/wait.js";

const LABEL = "kms-kek@20260101T000000Z";
const CKA_ID = "0a".repeat(16);
const AES_GCM = 1;
const SEED = Buffer.from("seed");
const NO_FINGERPRINT = "decrypt-only 0x1081,0x1082,0x1087";
/** A request that no token answers ends with one of these. */
const AWAY = /^(HSM_UNAVAILABLE|DEADLINE)$/;

const softHsms: SoftHsm[] = [];
const faults: FaultModule[] = [];
const opened: OpenedToken[] = [];

const behindFault = (token: TestToken): FaultModule => {
  const fault = new FaultModule(token);
  faults.push(fault);
  return fault;
};
const open = (token: TestToken): OpenedToken["hsm"] => {
  const one = openToken(token);
  opened.push(one);
  return one.hsm;
};
const newToken = (label: string): SoftHsm => {
  const softHsm = createSoftHsm({ label });
  softHsms.push(softHsm);
  return softHsm;
};
const request = (keyId: string, data: Buffer): CryptRequest => ({
  keyId,
  mechanism: AES_GCM,
  aad: Buffer.from("aad"),
  data,
});

let first: FaultModule;
let keyId: string;
let original: SoftHsm;

beforeEach(async () => {
  stored = undefined;
  original = newToken("first");
  first = behindFault(original);
  const maker = openToken(original);
  ({ keyId } = await maker.hsm.generate({ label: LABEL, ckaId: CKA_ID, kind: "aes" }));
  await maker.hsm.stop(200);
});

afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ hsm }) => hsm.stop(200)));
  for (const fault of faults.splice(0)) fault.remove();
  for (const softHsm of softHsms.splice(0)) softHsm.remove();
});

/** What the failover sets of a test store, as in a state directory. */
let stored: object | undefined;
const memory: KekMemoryStore = { load: () => stored, save: (document) => (stored = document) };

/** Starts a failover set of the first token and a second one, as a start of the plugin does. */
function start(second: TestToken): FailoverHsm {
  const members = [
    { name: "first", hsm: open(first) },
    { name: "second", hsm: open(second) },
  ];
  return new FailoverHsm({ members, requestTimeoutMs: 5_000, memory, log: SILENT });
}

/** Combines the first token with a second one, which computes no fingerprint. */
async function combine(second: TestToken): Promise<{ failover: FailoverHsm; second: FaultModule }> {
  const behind = behindFault(second);
  behind.set(NO_FINGERPRINT);
  const failover = start(behind);
  expect((await failover.listKeks()).map((record) => record.keyId)).toEqual([keyId]);
  return { failover, second: behind };
}

/** Decrypts as a proof does, and waits until the second token has been asked too. */
async function prove(failover: FailoverHsm, second: FaultModule): Promise<void> {
  const canary = await failover.encrypt(request(keyId, SEED), PROOF_CALLER);
  const before = second.calls("C_DecryptInit");
  await failover.decrypt(request(keyId, canary), PROOF_CALLER);
  await waitFor(() => second.calls("C_DecryptInit") > before, { what: "the canary", timeoutMs: 20_000 });
}

it("a clone without a fingerprint decrypts during an outage, once it has opened a canary", async () => {
  const { failover, second } = await combine(new SoftHsmClone(original, "second"));
  const body = Buffer.from(await failover.encrypt(request(keyId, SEED), PATIENT_CALLER));
  first.set("device-error");
  expect(await codeOf(failover.decrypt(request(keyId, body), PATIENT_CALLER))).toMatch(AWAY);
  first.clear();
  const works = async (): Promise<Buffer> =>
    Buffer.from(await failover.decrypt(request(keyId, body), PATIENT_CALLER));
  await waitFor(works, { what: "the first token again", timeoutMs: 30_000 });

  await prove(failover, second);
  first.set("device-error");
  expect(await waitFor(works, { what: "the second token", timeoutMs: 30_000 })).toEqual(SEED);
  expect(await codeOf(failover.encrypt(request(keyId, SEED), PATIENT_CALLER))).toMatch(AWAY);
});

it("a refused key is not asked by its own key_id for a KEK that has no fingerprint", async () => {
  const planted = newToken("second");
  first.set("only-mechanisms 0x1080,0x1087", "gcm-iv written");
  const second = open(planted);
  const other = await second.generate({ label: LABEL, ckaId: CKA_ID, kind: "aes" });
  const forged = Buffer.from(await second.encrypt(request(other.keyId, SEED), PATIENT_CALLER));
  const members = [
    { name: "first", hsm: open(first) },
    { name: "second", hsm: second },
  ];
  const failover = new FailoverHsm({ members, requestTimeoutMs: 5_000, log: SILENT });
  expect((await failover.listKeks()).map((record) => record.keyId)).toEqual([`${CKA_ID}.n`]);
  expect(await codeOf(failover.decrypt(request(other.keyId, forged), PATIENT_CALLER))).toBe("KEY_UNKNOWN");
});

it("a key of another value never decrypts for a KEK, by its key_id or by an earlier one", async () => {
  const planted = newToken("second");
  const maker = openToken(planted);
  const other = await maker.hsm.generate({ label: LABEL, ckaId: CKA_ID, kind: "aes" });
  const earlier = `${CKA_ID}.s${"1".repeat(32)}`;
  const forged = Buffer.from(await maker.hsm.encrypt(request(other.keyId, SEED), PATIENT_CALLER));
  await maker.hsm.stop(200);
  const { failover, second } = await combine(planted);
  const body = Buffer.from(await failover.encrypt(request(keyId, SEED), PATIENT_CALLER));
  await prove(failover, second);
  expect(await codeOf(failover.decrypt(request(keyId, forged), PATIENT_CALLER))).toBe("NOT_AUTHENTIC");
  expect(await codeOf(failover.decrypt(request(earlier, forged), PATIENT_CALLER))).toBe("KEY_UNKNOWN");
  first.set("device-error");
  expect(await codeOf(failover.decrypt(request(keyId, body), PATIENT_CALLER))).toMatch(AWAY);
});

it("after a restart without the first token, a clone that opened a canary before decrypts", async () => {
  const { failover, second } = await combine(new SoftHsmClone(original, "second"));
  const body = Buffer.from(await failover.encrypt(request(keyId, SEED), PATIENT_CALLER));
  await prove(failover, second);
  first.set("device-error");
  const restarted = start(second);
  expect(await restarted.listKeks()).toMatchObject([{ keyId, heldBy: ["second"] }]);
  expect(Buffer.from(await restarted.decrypt(request(keyId, body), PATIENT_CALLER))).toEqual(SEED);
  expect(await codeOf(restarted.encrypt(request(keyId, SEED), PATIENT_CALLER))).toMatch(AWAY);
});

it("after a restart without the first token, a key of another value decrypts nothing", async () => {
  const planted = newToken("second");
  const maker = openToken(planted);
  const other = await maker.hsm.generate({ label: LABEL, ckaId: CKA_ID, kind: "aes" });
  const forged = Buffer.from(await maker.hsm.encrypt(request(other.keyId, SEED), PATIENT_CALLER));
  await maker.hsm.stop(200);
  const { failover, second } = await combine(planted);
  await prove(failover, second);
  first.set("device-error");
  const restarted = start(second);
  expect(await restarted.listKeks()).toEqual([]);
  for (const name of [keyId, other.keyId, `${CKA_ID}.n`]) {
    expect([name, await codeOf(restarted.decrypt(request(name, forged), PATIENT_CALLER))]).toEqual([
      name,
      expect.stringMatching(AWAY),
    ]);
  }
  first.clear();
  const isBack = async (): Promise<boolean> => (await restarted.listKeks())[0]?.keyId === keyId;
  await waitFor(isBack, { what: "the first token again", timeoutMs: 30_000 });
});

it("without a canary, a key without a fingerprint decrypts nothing while a token is unread", async () => {
  const { failover, second } = await combine(new SoftHsmClone(original, "second"));
  const body = Buffer.from(await failover.encrypt(request(keyId, SEED), PATIENT_CALLER));
  stored = undefined;
  first.set("device-error");
  const restarted = start(second);
  await restarted.listKeks();
  expect(await codeOf(restarted.decrypt(request(keyId, body), PATIENT_CALLER))).toMatch(AWAY);
});

it("a stored canary never decrypts as a seed", async () => {
  const { failover, second } = await combine(new SoftHsmClone(original, "second"));
  await prove(failover, second);
  const { canaries } = stored as { canaries: { mechanism: number; body: string }[] };
  expect(canaries).toHaveLength(1);
  const [{ mechanism, body } = { mechanism: 0, body: "" }] = canaries;
  for (const version of [PLAIN_FORMAT, CHECKED_FORMAT] as const) {
    const aad = associatedData(version, mechanism, keyId);
    const seed = { keyId, mechanism, aad, data: Buffer.from(body, "base64") };
    expect(await codeOf(failover.decrypt(seed, PATIENT_CALLER))).toBe("NOT_AUTHENTIC");
  }
});

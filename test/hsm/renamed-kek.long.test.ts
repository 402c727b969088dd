// A KEK whose key_id changes because the HSM computes another fingerprint, or none, for its value: what is stored under the
// earlier key_id is still decrypted, by that KEK alone.

import { afterEach, expect, it } from "vitest";

import { mechanismByName } from "../../src/hsm/mechanisms.js";
import { PATIENT_CALLER } from "../../src/hsm/port.js";
import { codeOf, PLAINTEXT, useFaultyToken } from "../support/faulty-token.js";

const token = useFaultyToken();
const ID = "0c".repeat(16);
const AAD = Buffer.from("associated data");
const mechanism = mechanismByName("aes-gcm").id;
/** AES-ECB and AES-CBC compute the fingerprint `c`, AES-GCM computes `g`. */
const NO_BLOCKS = "only-mechanisms 0x1080,0x1087";
const NO_FINGERPRINT = "decrypt-only 0x1081,0x1082,0x1087";

interface Stored {
  readonly keyId: string;
  readonly body: Buffer;
}

/** Makes a KEK and encrypts under it, as a plugin did that has ended since. */
async function store(objectName: string, ckaId = ID): Promise<Stored> {
  const { hsm } = token.open({ objectName, requestTimeoutMs: 10_000 });
  const { keyId } = await hsm.generate({ label: `${objectName}@20260101T000000Z`, ckaId, kind: "aes" });
  const request = { keyId, mechanism, aad: AAD, data: PLAINTEXT };
  const body = Buffer.from(await hsm.encrypt(request, PATIENT_CALLER));
  await hsm.stop(200);
  return { keyId, body };
}

afterEach(() => {
  token.fault.clear();
});

it.each([
  ["none", "lost", NO_FINGERPRINT, `${ID}.n`],
  ["one by another method", "other", NO_BLOCKS, `${ID}.g`],
])(
  "a token decrypts what is stored under a KEK's earlier fingerprint, now %s",
  async (_what, name, rule, now) => {
    const { keyId, body } = await store(name);
    token.fault.set(rule);
    const { hsm } = token.open({ objectName: name, requestTimeoutMs: 10_000 });
    const request = { keyId, mechanism, aad: AAD, data: body };
    // First before the host has read any key, then after it has.
    expect(Buffer.from(await hsm.decrypt(request, PATIENT_CALLER))).toEqual(PLAINTEXT);
    const [record] = await hsm.listKeks();
    expect([record?.keyId.slice(0, now.length), record?.aliases.includes(keyId)]).toEqual([now, false]);
    expect(Buffer.from(await hsm.decrypt(request, PATIENT_CALLER))).toEqual(PLAINTEXT);
    expect(await codeOf(hsm.encrypt({ ...request, data: PLAINTEXT }, PATIENT_CALLER))).not.toBe("done");
  },
);

it("a KEK that may have had a key_id refuses what another KEK has encrypted", async () => {
  const foreign = await store("foreign", "0d".repeat(16));
  await store("similar");
  token.fault.set(NO_FINGERPRINT);
  const { hsm } = token.open({ objectName: "similar", requestTimeoutMs: 10_000 });
  const keyId = `${ID}.c${"1".repeat(32)}`;
  for (const id of [mechanism, mechanismByName("aes-kwp").id, mechanismByName("rsa-oaep").id]) {
    const request = { keyId, mechanism: id, aad: AAD, data: foreign.body };
    expect(await codeOf(hsm.decrypt(request, PATIENT_CALLER))).toBe("KEY_UNKNOWN");
  }
});

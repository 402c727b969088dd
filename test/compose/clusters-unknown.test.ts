// What a flood of unknown key_ids costs on a token that clusters share: a bounded number of searches, and nobody a late
// answer.

import { randomBytes } from "node:crypto";

import { afterAll, beforeAll, expect, it } from "vitest";

import type { KmsCiphertext } from "../../src/kms-client/kms-client.js";
import type { KekRecord } from "../../src/hsm/port.js";
import { ClustersPlugin } from "../support/clusters-plugin.js";
import { createKek } from "../support/plugin-process.js";
import { openToken } from "../support/token-hsm.js";
import { useToken } from "../support/token-fixture.js";

const NAMES = ["alpha", "beta", "gamma"];

/** No reading at the interval disturbs the counts. */
const SELDOM = { refreshInterval: "5m" };

const softHsm = useToken({ faults: [] });
let kms: ClustersPlugin;
let sealed: KmsCiphertext;

beforeAll(async () => {
  for (const name of NAMES) createKek(softHsm.token, name);
  kms = await ClustersPlugin.on(softHsm.front);
  kms.configure(Object.fromEntries(NAMES.map((name) => [name, { requests: 4, keys: SELDOM }])));
  await kms.start(...NAMES);
  sealed = await kms.client("alpha").encrypt(randomBytes(32), "u");
});
afterAll(() => kms.remove());

const codeOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => "ok",
    (error: unknown) => String(error).replace(/^(?:Kms)?Error: |: .*/g, ""),
  );
const searches = (): number => softHsm.fault.calls("C_FindObjectsInit");

async function makeKek(label: string): Promise<KekRecord> {
  const { hsm } = openToken(softHsm.token, { objectName: label.split("@", 1)[0] ?? "", hosts: 1 });
  await hsm.listKeks();
  const kek = await hsm.generate({ label, ckaId: randomBytes(16).toString("hex"), kind: "aes" });
  await hsm.stop(1_000);
  return kek;
}

const unknownKeyId = (): string => `${randomBytes(16).toString("hex")}.n`;
const decrypt = (name: string, keyId: string): Promise<string> =>
  codeOf(kms.client(name).decrypt({ ...sealed, keyId }, "u"));

it("ciphertexts that are offered to other clusters cost the token nothing", async () => {
  const before = searches();
  const offers = Array.from({ length: 100 }, () => decrypt("beta", sealed.keyId));
  expect(new Set(await Promise.all(offers))).toEqual(new Set(["NOT_FOUND"]));
  expect(searches()).toBe(before);
});

it("a flood of unknown key_ids on all clusters is answered by a few readings of the token", async () => {
  const before = searches();
  expect(await decrypt("alpha", unknownKeyId())).toBe("NOT_FOUND");
  const ofOneReading = searches() - before;
  const flood = NAMES.flatMap((name) => Array.from({ length: 100 }, () => decrypt(name, unknownKeyId())));
  expect(new Set(await Promise.all(flood))).toEqual(new Set(["NOT_FOUND"]));
  expect(searches() - before).toBeLessThanOrEqual(10 * ofOneReading);
});

it("a KEK made during a flood of unknown key_ids is found by the first request for it", async () => {
  const flood = Array.from({ length: 50 }, () => decrypt("beta", unknownKeyId()));
  const { keyId } = await makeKek("alpha@20990101T000000Z");
  // The ciphertext is of another KEK.
  expect(await decrypt("alpha", keyId)).toBe("INVALID_ARGUMENT");
  await Promise.all(flood);
});

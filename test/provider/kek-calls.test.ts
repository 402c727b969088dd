// Whether a refused ciphertext or the token is at fault, decided by the KEK's proof.

import { beforeEach, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { mechanismByName, MECHANISMS } from "../../src/hsm/mechanisms.js";
import { PATIENT_CALLER } from "../../src/hsm/port.js";
import { KekCalls } from "../../src/provider/kek-calls.js";
import { Prover } from "../../src/provider/prover.js";
import { FakeHsm, SILENT } from "../support/fake-hsm.js";
import { kekRecord } from "../support/kek-record.js";

const LACKING = new KmsError("MECHANISM_UNSUPPORTED", "the token does not perform it");

let hsm: FakeHsm;
let calls: KekCalls;

beforeEach(async () => {
  hsm = new FakeHsm();
  const prover = new Prover(hsm, "auto", SILENT);
  const record = kekRecord("kek", "k");
  hsm.records = [record];
  await prover.prove([{ record, activation: 0 }], "k");
  calls = new KekCalls({ hsm, prover, onHsmTrouble: () => undefined });
  hsm.failures.set("k", LACKING);
});

it.each(MECHANISMS.map(({ name }) => name).filter((name) => name !== "aes-gcm"))(
  "a ciphertext that names %s is blamed if its KEK is proven by another mechanism",
  async (name) => {
    const mechanism = mechanismByName(name);
    const envelope = { kind: "direct", version: 2, mechanism, body: Buffer.alloc(100) } as const;
    const refused = { code: "INPUT_INVALID", message: expect.stringContaining(name) as string };
    await expect(calls.decrypt("k", envelope, PATIENT_CALLER)).rejects.toMatchObject(refused);
  },
);

it("a token is blamed if it no longer performs the mechanism by which its KEK is proven", async () => {
  const mechanism = mechanismByName("aes-gcm");
  const envelope = { kind: "direct", version: 1, mechanism, body: Buffer.alloc(100) } as const;
  await expect(calls.decrypt("k", envelope, PATIENT_CALLER)).rejects.toMatchObject({ code: LACKING.code });
});

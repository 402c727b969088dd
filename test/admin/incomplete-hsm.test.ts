import { expect, it } from "vitest";

import { IncompleteHsm } from "../../src/admin/incomplete-hsm.js";
import { KmsError } from "../../src/errors.js";
import { PATIENT_CALLER } from "../../src/hsm/port.js";
import { FakeHsm } from "../support/fake-hsm.js";

const away = { name: "pkcs11:token=b", failure: new KmsError("HSM_UNAVAILABLE", "no answer") };
const cautious = {
  code: "KEY_MISSING",
  message: "its KEK may be on pkcs11:token=b, which could not be read: no answer",
};

it("a KEK that the only readable token lacks is not said to be unknown", async () => {
  const hsm = new FakeHsm();
  const incomplete = new IncompleteHsm(hsm, away);
  expect(incomplete.state()).toMatchObject({ up: true, unread: cautious });
  hsm.failures.set("other", new KmsError("KEY_UNKNOWN", "no KEK"));
  const request = { keyId: "other", mechanism: 1, aad: Buffer.alloc(1), data: Buffer.alloc(40) };
  await expect(incomplete.decrypt(request, PATIENT_CALLER)).rejects.toMatchObject(cautious);
});

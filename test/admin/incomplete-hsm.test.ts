import { expect, it } from "vitest";

import type { Token } from "../../src/admin/command-tokens.js";
import { IncompleteHsm } from "../../src/admin/incomplete-hsm.js";
import type { Operator } from "../../src/admin/operator.js";
import { withProviderOn } from "../../src/admin/with-provider.js";
import { loadSettings } from "../../src/config/load.js";
import { KmsError } from "../../src/errors.js";
import { PATIENT_CALLER } from "../../src/hsm/port.js";
import { encodeEnvelope } from "../../src/provider/envelope.js";
import { FakeHsm } from "../support/fake-hsm.js";
import { kekRecord } from "../support/kek-record.js";

const away = { name: "pkcs11:token=b", failure: new KmsError("HSM_UNAVAILABLE", "no answer") };
const cautious = {
  code: "KEY_MISSING",
  message: "its KEK may be on pkcs11:token=b, which could not be read: no answer",
};

const settings = loadSettings({
  flags: { key: "pkcs11:token=kms;object=kms-kek?module-path=/nowhere.so&pin-source=file:/nowhere" },
  env: {},
  serves: false,
});
const KEK = kekRecord("kms-kek", `01.c${"1".repeat(32)}`);

function tokenOf(name: string, failure?: KmsError): Token {
  const hsm = new FakeHsm();
  hsm.failure = failure;
  hsm.records = [KEK];
  return { name, hsm, records: [KEK], failure, openMs: 0 } as unknown as Token;
}

it("a KEK that the only readable token lacks is not said to be unknown", async () => {
  const hsm = new FakeHsm();
  const incomplete = new IncompleteHsm(hsm, away);
  expect(incomplete.state()).toMatchObject({ up: true, unread: cautious });
  hsm.failures.set("other", new KmsError("KEY_UNKNOWN", "no KEK"));
  const request = { keyId: "other", mechanism: 1, aad: Buffer.alloc(1), data: Buffer.alloc(40) };
  await expect(incomplete.decrypt(request, PATIENT_CALLER)).rejects.toMatchObject(cautious);
});

it.each([1, 2])(
  "with %i of several tokens readable, an unknown key_id may be on another",
  async (readable) => {
    const tokens = [
      ...Array.from({ length: readable }, (_, number) => tokenOf(`pkcs11:token=a${number}`)),
      tokenOf(away.name, away.failure),
    ];
    const notices: string[] = [];
    const operator = { notify: (text: string) => notices.push(text) } as unknown as Operator;
    const question = {
      ciphertext: encodeEnvelope(2, 1, Buffer.alloc(60)),
      keyId: `02.c${"2".repeat(32)}`,
      annotations: {},
    };
    const decrypted = withProviderOn(tokens, settings, operator, (provider) =>
      provider.decrypt(question, { uid: "u", startedAt: performance.now(), cancelled: false }),
    );
    await expect(decrypted).rejects.toMatchObject(cautious);
    expect(notices).toEqual([expect.stringContaining("pkcs11:token=b: no answer; using pkcs11:token=a0")]);
  },
);

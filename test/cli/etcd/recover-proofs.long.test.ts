// Which KEKs `etcd recover --delete` takes as proven before it deletes anything: those that may only decrypt, those that nothing
// stored needs, and those whose name has changed.
import { expect, it } from "vitest";
import { pkcs11Tool } from "../../support/softhsm.js";
import { bad, useRecovery } from "./recovery-stage.js";

const stage = useRecovery();
/** The token does not encrypt under AES-GCM and AES-KWP. */
const DECRYPT_ONLY = "decrypt-only 0x1087,0x210a,0x210b";

it("damaged objects under a KEK that may only decrypt are deleted", async () => {
  stage.kms.fault.set(DECRYPT_ONLY);
  expect(await stage.outcomes()).toEqual({ "a-moved": "deleted", "b-junk": "deleted", "c-unknown": "kept" });
});

it("a KEK that stops decrypting stored seeds during a deletion ends it", async () => {
  stage.kms.fault.set(DECRYPT_ONLY);
  stage.api.hooks.onDelete = () => {
    stage.kms.fault.set(DECRYPT_ONLY, "C_Decrypt rv 0x40");
  };
  const { code, stderr } = await stage.delete();
  expect([code, stderr]).toEqual([1, expect.stringContaining("does not decrypt a stored DEK seed")]);
  expect(stage.api.deletions).toEqual([bad("a-moved")]);
});

it("a KEK that is not proven and that no object needs prevents no deletion", async () => {
  const id = "0b".repeat(16);
  const named = ["--id", id, "--label", "kms-kek@20250101T000000Z"];
  pkcs11Tool(
    stage.kms.token,
    "--keygen",
    "--key-type",
    "GENERIC:32",
    "--usage-sign",
    "--private",
    "--sensitive",
    ...named,
  );
  stage.kms.own.configure({ mechanism: "aes-gcm", audit: { file: stage.auditFile } });
  try {
    const { stdout, stderr } = await stage.delete();
    expect(stderr).toMatch(new RegExp(`KEK ${id}\\S+ is not proven on .*; no stored object names it`));
    expect(stdout).toMatch(/a-moved +deleted/);
  } finally {
    stage.kms.own.configure({ audit: { file: stage.auditFile } });
    pkcs11Tool(stage.kms.token, "--delete-object", "--type", "secrkey", "--id", id);
  }
});

it("objects under a KEK that has lost its fingerprint are read, and kept if called lost", async () => {
  stage.kms.fault.set("decrypt-only 0x1081,0x1082,0x1087,0x210a,0x210b");
  expect(await stage.outcomes("--lost-kek", stage.seed.encrypted.keyId)).toEqual({
    "a-moved": "deleted",
    "b-junk": "deleted",
    "c-unknown": "kept",
  });
});

it("objects that a KEK without fingerprint does not decrypt are kept, even if called lost", async () => {
  stage.kms.fault.set("decrypt-only 0x1081,0x1082,0x1087,0x210a,0x210b", "C_Decrypt rv 0x40");
  const { stdout } = await stage.run();
  expect(stdout).toMatch(/^21 unproven: the KEK \S+\.n on a token may be its KEK/m);
  await stage.refuses(stage.delete("--lost-kek", stage.seed.encrypted.keyId), 1, "is not proven on");
});

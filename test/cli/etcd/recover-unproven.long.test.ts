// What `etcd recover` never calls unreadable: objects whose key a token may hold that fails, is away, or cannot prove its KEK.
import { describe, expect, it } from "vitest";
import { tokenUri } from "../../support/token.js";
import { ALL_CAUSES, useUnreadableObjects } from "./unreadable-objects.js";

const objects = useUnreadableObjects();
/** No KEK encrypts: AES-GCM and AES-KWP decrypt only. */
const DECRYPT_ONLY = "decrypt-only 0x1087,0x210a,0x210b";

it("etcd recover finishes its list although the token is late with one decryption", async () => {
  const { fault } = objects.kms;
  fault.set(`C_Decrypt sleep 4000 once=${fault.path("late")}`);
  expect(await objects.causes()).toEqual(ALL_CAUSES);
});

describe("what etcd recover never calls unreadable", () => {
  it("etcd recover lists no object if the token fails while it decrypts", async () => {
    objects.kms.fault.set("C_DecryptInit rv 0x32");
    expect(await objects.recover()).toMatchObject({ code: 3, stdout: "" });
  });

  it("etcd recover lists no object if the token shows no KEK", async () => {
    const empty = tokenUri(objects.kms.token, "nothing");
    expect(await objects.recover("--kek", empty)).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringContaining("no token holds a KEK") as string,
    });
  });

  it("an unknown key_id is unproven while another configured token is away", async () => {
    objects.kms.fault.set("C_OpenSession rv 0x30");
    expect(await objects.causes("--config", objects.both.configFile)).toEqual({
      ...ALL_CAUSES,
      unknown: "unproven",
    });
  });

  it("objects under a KEK that fails its proof are unproven, not damaged", async () => {
    objects.kms.fault.set("C_Decrypt rv 0x40");
    const found = await objects.causes();
    expect(found).toMatchObject({ moved: "unproven", seed: "unproven", unknown: "unknown-key-id" });
  });

  it("a KEK that may only decrypt is proven by a stored seed", async () => {
    objects.kms.fault.set(DECRYPT_ONLY);
    expect(await objects.causes()).toEqual(ALL_CAUSES);
  });

  it("a KEK that may only decrypt proves nothing while it decrypts no stored seed", async () => {
    await objects.etcd.store.put("/other/secrets/bad/seed", objects.damagedSeed());
    expect(await objects.causes("--prefix", "/other")).toEqual({ seed: "damaged" });
    objects.kms.fault.set(DECRYPT_ONLY);
    expect(await objects.causes("--prefix", "/other")).toEqual({ seed: "unproven" });
  });
});

// Slots beside the one that holds the token: what is wrong with them must not hide it.

import { afterEach, describe, expect, it } from "vitest";

import { codeOf, useFaultyToken } from "../support/faulty-token.js";
import { openToken } from "../support/token-hsm.js";
import { waitFor } from "../support/wait.js";

describe("a slot that cannot be read", () => {
  const token = useFaultyToken();
  const others: { stop(graceMs: number): Promise<void> }[] = [];
  afterEach(async () => {
    await Promise.all(others.map((hsm) => hsm.stop(200)));
    others.length = 0;
  });

  it.each(["C_GetSlotInfo 0x30", "C_GetSlotInfo 0x5", "C_GetTokenInfo 0x30", "C_GetTokenInfo 0x80000001"])(
    "is passed over (broken-slot %s)",
    async (fault) => {
      token.fault.set(`broken-slot ${fault}`);
      const opened = await token.start();
      expect(await codeOf(token.encrypt(opened))).toBe("done");
    },
  );

  it("is named where no token matches", async () => {
    token.fault.set("broken-slot C_GetTokenInfo 0x30");
    const { modulePath, pin, pinFile, env } = token.fault;
    const elsewhere = { modulePath, pin, pinFile, env, label: "elsewhere", remove: () => undefined };
    const { hsm } = openToken(elsewhere);
    others.push(hsm);
    const message = async (): Promise<string> =>
      hsm.listKeks().then(
        () => "",
        (error: unknown) => (error as Error).message,
      );
    await waitFor(async () => (await message()).includes("no token matches"), { what: "the refusal" });
    expect(await message()).toContain("slot 127 could not be read: CKR_DEVICE_ERROR (0x30)");
  });

  it("is named where no other slot holds a token", async () => {
    token.fault.set("broken-slot C_GetTokenInfo 0xE1", "C_GetTokenInfo rv 0xE1");
    const opened = token.open();
    await waitFor(() => !opened.hsm.state().up && opened.ended.length > 0, { what: "the refusal" });
    const state = opened.hsm.state();
    const reason = state.up ? undefined : state.reason;
    expect(reason?.code).toBe("HSM_UNAVAILABLE");
    expect(reason?.message).toContain("slot 127 could not be read: CKR_TOKEN_NOT_RECOGNIZED (0xe1)");
  });
});

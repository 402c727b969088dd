// A fault of another slot must not hide the slot that holds the token.

import { afterEach, describe, expect, it } from "vitest";

import { codeOf, useFaultyToken } from "../support/faulty-token.js";
import { parsePkcs11Uri, tokenSelector } from "../../src/config/pkcs11-uri.js";
import type { TokenHsm } from "../../src/hsm/token-hsm.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import type { TestToken } from "../support/token.js";
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
    "an unreadable slot is passed over (broken-slot %s)",
    async (fault) => {
      token.fault.set(`broken-slot ${fault}`);
      const opened = await token.start();
      expect(await codeOf(token.encrypt(opened))).toBe("done");
    },
  );

  it("an unreadable slot is reported if no token matches", async () => {
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

  it("an unreadable slot is reported if no other slot holds a token", async () => {
    token.fault.set("broken-slot C_GetTokenInfo 0xE1", "C_GetTokenInfo rv 0xE1");
    const opened = token.open();
    await waitFor(() => !opened.hsm.state().up && opened.ended.length > 0, { what: "the refusal" });
    const state = opened.hsm.state();
    const reason = state.up ? undefined : state.reason;
    expect(reason?.code).toBe("HSM_UNAVAILABLE");
    expect(reason?.message).toContain("slot 127 could not be read: CKR_TOKEN_NOT_RECOGNIZED (0xe1)");
  });
});

describe("blanks in labels", () => {
  it("blanks in labels of tokens and keys count at the beginning and are padding at the end", async () => {
    const softHsm = createSoftHsm({ label: " kms" });
    const plain = softHsm.add({ label: "kms" });
    const opened: TokenHsm[] = [];
    // Each is opened when the one before is in use: SoftHSM's C_GetTokenInfo may fail while another process logs in.
    const open = (token: TestToken, objectName: string): TokenHsm => {
      const { hsm } = openToken(token, { objectName });
      opened.push(hsm);
      return hsm;
    };
    try {
      const leading = open(softHsm, " kek");
      const made = await leading.generate({ label: " kek@20260101T000000Z", ckaId: "01", kind: "aes" });
      expect(leading.token()?.label).toBe(" kms");
      expect(await leading.listKeks()).toEqual([made]);
      const other = open(plain, "kek");
      await other.generate({ label: "kek@20260101T000000Z", ckaId: "02", kind: "aes" });
      for (const hsm of [other, open({ ...plain, label: "kms  " }, "kek")]) {
        expect((await hsm.listKeks()).map(({ label }) => label)).toEqual(["kek@20260101T000000Z"]);
      }
    } finally {
      await Promise.all(opened.map((hsm) => hsm.stop(200)));
      softHsm.remove();
    }
  });

  it("percent-encoded blanks of a URI reach the token", () => {
    const uri = parsePkcs11Uri(
      "pkcs11:token=%20kms;serial=%2001;model=%20m;manufacturer=%20me;object=%20kek",
    );
    expect(tokenSelector(uri)).toEqual({ token: " kms", serial: " 01", model: " m", manufacturer: " me" });
    expect(uri.object).toBe(" kek");
  });
});

describe("several tokens that match", () => {
  const refusal = async (softHsm: SoftHsm): Promise<string> => {
    const { hsm } = openToken(softHsm);
    try {
      return await hsm.listKeks().then(
        () => "",
        (error: unknown) => (error as Error).message,
      );
    } finally {
      await hsm.stop(200);
    }
  };

  it("several matching tokens are listed alone, with the serial that selects one", async () => {
    const softHsm = createSoftHsm({ label: "shared" });
    try {
      softHsm.add({ label: "shared" });
      softHsm.add({ label: "of-others" });
      const message = await refusal(softHsm);
      expect(message).toMatch(
        /^several tokens match token=shared: "shared" \(serial \w+\), "shared" \(serial \w+\);/,
      );
      expect(message).toMatch(/; add serial=\.\.\. to the URI, such as serial=[0-9a-f]{16}$/);
      expect(message).not.toContain("of-others");
    } finally {
      softHsm.remove();
    }
  });
});

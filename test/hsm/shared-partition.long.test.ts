// A token that holds many keys of other applications, or unreadable ones: readings take long or fail, and operations
// under the KEK continue.

import { describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { codeOf, useFaultyToken } from "../support/faulty-token.js";
import type { OpenedToken } from "../support/token-hsm.js";
import { waitFor } from "../support/wait.js";

const OBJECTS = 400;
/** Reading all of them takes some seconds, many times as long as a start may take without progress. */
const SHARED = [`foreign-objects ${OBJECTS}`, "C_GetAttributeValue sleep 10"];
const HASTY = { startTimeoutMs: 2_000, requestTimeoutMs: 2_900 };

const token = useFaultyToken();
const keyIds = async ({ hsm }: OpenedToken): Promise<string[]> =>
  (await hsm.listKeks()).map(({ keyId }) => keyId);
const messageOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "",
    (error: unknown) => KmsError.from(error).message,
  );

describe("many keys of other applications", () => {
  it("keys of other applications do not prevent a start, and are not checked at every reading", async () => {
    token.fault.set(...SHARED);
    const opened = await token.start(HASTY);
    const before = token.fault.calls("C_GetAttributeValue");
    expect(await keyIds(opened)).toEqual([token.keyId]);
    expect(token.fault.calls("C_GetAttributeValue") - before).toBeLessThan(OBJECTS);
  });

  it("a later reading lists the foreign keys and reads none of them, on the warm host too", async () => {
    token.fault.set("foreign-objects 2000");
    const opened = await token.start({ hosts: 2 });
    const before = { all: token.fault.calls(), attributes: token.fault.calls("C_GetAttributeValue") };
    for (let reading = 0; reading < 3; reading++) expect(await keyIds(opened)).toEqual([token.keyId]);
    // For each host: the label and the attributes of the KEK, which are read twice.
    expect(token.fault.calls("C_GetAttributeValue") - before.attributes).toBeLessThanOrEqual(6 * 3);
    expect(token.fault.calls() - before.all).toBeLessThan(300);
    expect(opened.ended).toEqual([]);
  });

  it("the first reading makes one call for each foreign key, and few searches", async () => {
    const objects = 20_000;
    token.fault.set(`foreign-objects ${objects}`);
    const before = { all: token.fault.calls(), attributes: token.fault.calls("C_GetAttributeValue") };
    const opened = await token.start({ startTimeoutMs: 60_000 });
    expect(await keyIds(opened)).toEqual([token.keyId]);
    const attributes = token.fault.calls("C_GetAttributeValue") - before.attributes;
    expect(attributes - objects).toBeLessThan(10);
    expect(token.fault.calls() - before.all - attributes).toBeLessThan(200);
  });

  it.each(["0x5", "0x7", "0x30", "0x150", "0x80000001", "0"])(
    "a library that answers %s to a buffer larger than the value is read with two calls",
    async (code) => {
      const known = await (await token.start()).hsm.listKeks();
      token.fault.set(`exact-reads ${code}`, "foreign-objects 20");
      const opened = await token.start();
      expect(await opened.hsm.listKeks()).toEqual(known);
      expect(opened.ended).toEqual([]);
    },
  );

  it("reading many foreign keys delays no request, even with one host and one session", async () => {
    const opened = await token.start({ requestTimeoutMs: 2_900, sessions: 1 });
    token.fault.set(...SHARED);
    const codes = new Set<string>();
    let over = false;
    const reading = keyIds(opened).finally(() => (over = true));
    while (!(over as boolean)) codes.add(await codeOf(token.encrypt(opened)));
    expect(await reading).toEqual([token.keyId]);
    expect([...codes]).toEqual(["done"]);
    expect(opened.ended).toEqual([]);
  });

  it("a request on a new session does not read the keys of other applications", async () => {
    const opened = await token.start({ requestTimeoutMs: 2_900 });
    token.fault.set("foreign-objects 1000", "C_GetAttributeValue sleep 10", "C_Encrypt sleep 5");
    await waitFor(
      async () => {
        const codes = await Promise.all(Array.from({ length: 16 }, () => codeOf(token.encrypt(opened))));
        expect(new Set(codes)).toEqual(new Set(["done"]));
        return opened.hsm.sessions > 2;
      },
      { what: "more sessions", timeoutMs: 20_000 },
    );
    expect(opened.ended).toEqual([]);
  });

  it("a reading without progress reports how far it came and which setting helps", async () => {
    const opened = await token.start({ hosts: 2, startTimeoutMs: 2_000, requestTimeoutMs: 200 });
    token.fault.set(
      `foreign-objects ${OBJECTS}`,
      "C_GetAttributeValue sleep 5 count=60",
      "C_GetAttributeValue hang skip=60",
    );
    const message = await messageOf(opened.hsm.listKeks());
    expect(message).toMatch(/after \d+ of 4\d\d secret keys/);
    expect(message).toContain("hsm.startTimeout");
    expect(message).toContain("a partition of its own");
    expect(await codeOf(token.encrypt(opened))).toBe("done");
  });

  it("a search may take as long as it did at the start", async () => {
    token.fault.set("C_FindObjectsInit sleep 2000");
    const opened = await token.start({ startTimeoutMs: 20_000, requestTimeoutMs: 400 });
    expect(await keyIds(opened)).toEqual([token.keyId]);
    expect(opened.ended).toEqual([]);
  });
});

describe("a reading that fails while operations under the KEK succeed", () => {
  it.each([
    "C_FindObjectsInit rv 0x30",
    "C_FindObjects rv 0x5",
    "C_GetAttributeValue rv 0x30",
    "C_GetAttributeValue rv 0x80000001",
    "C_GetSessionInfo rv 0x6",
  ])("a failed reading costs no host and no request while the KEK works (%s)", async (line) => {
    const opened = await token.start();
    token.fault.set(line);
    expect(await codeOf(opened.hsm.listKeks())).toBe("HSM_UNAVAILABLE");
    expect(await codeOf(token.encrypt(opened))).toBe("done");
    expect(opened.ended).toEqual([]);
    token.fault.clear();
    expect(await keyIds(opened)).toEqual([token.keyId]);
  });

  it("a failed reading costs the host if the KEK fails too", async () => {
    const opened = await token.start();
    token.fault.set("device-error");
    expect(await codeOf(opened.hsm.listKeks())).toBe("HSM_UNAVAILABLE");
    await waitFor(() => opened.ended.includes("device"), { what: "the host's end" });
  });
});

describe("one object that cannot be read", () => {
  it.each(["0x5", "0x6", "0x54", "0x82", "0x80000001"])(
    "an unreadable object hides no other (CKR %s)",
    async (code) => {
      token.fault.set(`foreign-objects 3 ${code}`);
      const opened = await token.start();
      expect(await keyIds(opened)).toEqual([token.keyId]);
      expect(opened.ended).toEqual([]);
      const state = opened.hsm.state();
      const finding = state.up ? (state.finding ?? "") : "";
      // A vanished object is not unreadable.
      if (code === "0x82") expect(finding).toBe("");
      else expect(finding).toMatch(/^1 of \d+ secret keys on the token cannot be read/);
    },
  );

  it("an attribute that the token does not have does not hide the KEK", async () => {
    token.fault.set("no-attribute 0x100,0x163,0x10C");
    const opened = await token.start();
    expect(await keyIds(opened)).toEqual([token.keyId]);
  });
});

// A vendor call that never returns, at every possible point: requests end in time, the host that hangs is replaced, and
// no effect remains after the fault.

import { describe, expect, it } from "vitest";

import { codeOf, useFaultyToken } from "../../support/faulty-token.js";
import { createNss } from "../../support/nss.js";
import { createSoftHsm } from "../../support/softhsm.js";
import { waitFor } from "../../support/wait.js";

const ENDED_IN_TIME = /^(DEADLINE|HSM_UNAVAILABLE)$/;
const LIMIT = { timeoutMs: 20_000 };

describe.each([
  ["SoftHSM", createSoftHsm],
  ["NSS softokn", createNss],
])("with an AES KEK on %s", (_name, create) => {
  const token = useFaultyToken("aes", create);

  it("a hang in C_Decrypt ends requests by their deadline and does not block the state", async () => {
    const opened = await token.start();
    const body = await token.encrypt(opened);
    token.fault.set("C_Decrypt hang");
    const codes = Promise.all(Array.from({ length: 20 }, () => codeOf(token.decrypt(opened, body))));
    let answers = 0;
    const looking = setInterval(() => {
      if (typeof opened.hsm.state().up === "boolean" && opened.hsm.queueLength >= 0) answers++;
    }, 5);
    for (const code of await codes) expect(code).toMatch(ENDED_IN_TIME);
    clearInterval(looking);
    expect(answers).toBeGreaterThan(5);
    await waitFor(() => opened.ended.includes("hang"), { what: "the hung host's end", ...LIMIT });
    token.fault.clear();
    await token.recovers(opened);
  });

  it.each(["C_FindObjectsInit", "C_GetAttributeValue"])(
    "a hang in %s ends a reading of the keyring and its host",
    async (name) => {
      const opened = await token.start({ requestTimeoutMs: 200 });
      token.fault.set(`${name} hang`);
      expect(await codeOf(opened.hsm.listKeks())).toBe("HSM_UNAVAILABLE");
      await waitFor(() => opened.ended.includes("hang"), { what: "the hung host's end", ...LIMIT });
      token.fault.clear();
      await token.recovers(opened);
    },
  );

  it("a hang while a KEK to make is chosen ends its host, without the time for RSA pairs", async () => {
    const opened = await token.start({ requestTimeoutMs: 200 });
    token.fault.set("C_GenerateKey hang");
    const request = { label: "hung@20260101T000000Z", ckaId: "0d".repeat(16), kind: "auto" } as const;
    expect(await codeOf(opened.hsm.generate(request))).toBe("HSM_UNAVAILABLE");
    await waitFor(() => opened.ended.includes("hang"), { what: "the hung host's end", ...LIMIT });
    token.fault.clear();
    await token.recovers(opened);
  });

  it("a hang in the login after a logout does not prevent later logins", async () => {
    const opened = await token.start({ startTimeoutMs: 1_000 });
    token.fault.set("logout", "C_Login hang");
    expect(await codeOf(token.encrypt(opened))).toMatch(ENDED_IN_TIME);
    await waitFor(() => opened.ended.includes("hang"), { what: "the hung host's end", ...LIMIT });
    token.fault.clear();
    await token.recovers(opened);
  });

  it("a hang in opening one more session ends the host, and its successor can grow", async () => {
    const opened = await token.start({ requestTimeoutMs: 400 });
    token.fault.set("C_Encrypt sleep 5", "C_OpenSession hang");
    await waitFor(
      async () => {
        await Promise.all(Array.from({ length: 16 }, () => codeOf(token.encrypt(opened))));
        return opened.ended.length > 0;
      },
      { what: "the hung host's end", ...LIMIT },
    );
    token.fault.set("C_Encrypt sleep 5");
    await waitFor(
      async () => {
        await Promise.all(Array.from({ length: 16 }, () => codeOf(token.encrypt(opened))));
        return opened.hsm.sessions > 1;
      },
      { what: "another session", ...LIMIT },
    );
  });

  it("a hang in closing a session ends the host and does not delay the stop", async () => {
    const opened = await token.start();
    token.fault.set("C_EncryptInit rv 0x30", "C_CloseSession hang");
    expect(await codeOf(token.encrypt(opened))).toMatch(ENDED_IN_TIME);
    await waitFor(() => opened.ended.length > 0, { what: "the hung host's end", ...LIMIT });
    token.fault.clear();
    await token.recovers(opened);
    token.fault.set("C_CloseSession hang", "at-exit hang");
    await opened.hsm.stop(50);
  });

  it("while the serving host hangs, the warm one answers this request and the next", async () => {
    // On a busy machine a host has further lanes, which would serve.
    const opened = await token.start({ hosts: 2, sessions: 1, requestTimeoutMs: 2_000 });
    token.fault.set(`C_EncryptInit hang once=${token.fault.path("once")}`, "log C_Encrypt");
    const [serving] = opened.hsm.pids;
    expect(await codeOf(token.encrypt(opened))).toBe("done");
    expect(opened.hsm.pids).toContain(serving);
    const more = await Promise.all(Array.from({ length: 8 }, () => codeOf(token.encrypt(opened))));
    expect(new Set(more)).toEqual(new Set(["done"]));
    expect(token.fault.log().map(({ pid }) => pid)).not.toContain(serving);
    await waitFor(() => serving !== undefined && !opened.hsm.pids.includes(serving), {
      what: "the hung host's end",
      ...LIMIT,
    });
    await waitFor(() => opened.hsm.readyHosts === 2, { what: "its successor", ...LIMIT });
    expect(opened.ended).toContain("hang");
  });
});

describe("in the readings of several hosts", () => {
  const token = useFaultyToken();

  it("a hang in every reading costs only the host that it began on", async () => {
    const opened = await token.start({ hosts: 2, requestTimeoutMs: 1_500 });
    token.fault.set("C_FindObjects hang");
    const outcomes: string[] = [];
    const reading = codeOf(opened.hsm.listKeks()).then((code) => outcomes.push(code));
    const codes = new Set<string>();
    while (outcomes.length === 0) codes.add(await codeOf(token.encrypt(opened)));
    await reading;
    expect(outcomes).toEqual(["HSM_UNAVAILABLE"]);
    expect(await codeOf(opened.hsm.listKeks())).toBe("HSM_UNAVAILABLE");
    expect([...codes]).toEqual(["done"]);
    token.fault.clear();
    await waitFor(async () => (await codeOf(opened.hsm.listKeks())) === "done", {
      what: "a reading",
      ...LIMIT,
    });
  });

  it("a reading that hangs on the serving host is repeated on the warm one", async () => {
    const opened = await token.start({ hosts: 2, requestTimeoutMs: 300 });
    token.fault.set(`C_FindObjects hang once=${token.fault.path("reading")}`);
    expect(await opened.hsm.listKeks()).toMatchObject([{ keyId: token.keyId }]);
  });

  it("a slow reading leaves a host free for requests", async () => {
    const opened = await token.start({ hosts: 2, requestTimeoutMs: 2_900 });
    token.fault.set("C_FindObjectsInit sleep 1500", "log C_FindObjectsInit");
    const before = token.fault.calls("C_FindObjectsInit");
    const reading = opened.hsm.listKeks();
    await waitFor(() => token.fault.calls("C_FindObjectsInit") > before, {
      what: "a reading",
      intervalMs: 5,
    });
    expect(await codeOf(token.encrypt(opened))).toBe("done");
    expect(token.fault.log()).toEqual([]);
    expect(await reading).toHaveLength(1);
    expect(await codeOf(token.encrypt(opened))).toBe("done");
  });
});

describe("with an HMAC KEK", () => {
  const token = useFaultyToken("hmac");

  it.each(["C_SignInit", "C_Sign"])("a hang in %s ends requests by their deadline", async (name) => {
    const opened = await token.start();
    token.fault.set(`${name} hang`);
    expect(await codeOf(token.encrypt(opened))).toMatch(ENDED_IN_TIME);
    await waitFor(() => opened.ended.includes("hang"), { what: "the hung host's end", ...LIMIT });
    token.fault.clear();
    await token.recovers(opened);
  });
});

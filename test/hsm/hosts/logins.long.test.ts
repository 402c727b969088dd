// Lanes that lose their login: because the library requires a login for each load of itself (p11-kit-client), because
// another process has logged out, or because the token reports it for some call. Each lane logs in again under the same
// PIN policy, and requests continue meanwhile.

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { PATIENT_CALLER } from "../../../src/hsm/port.js";
import { FaultModule } from "../../support/fault-module.js";
import { codeOf, PLAINTEXT, useFaultyToken, type FaultyToken } from "../../support/faulty-token.js";
import { P11KitRemote } from "../../support/p11kit-remote.js";
import { createSoftHsm } from "../../support/softhsm.js";
import { openToken, type OpenedToken } from "../../support/token-hsm.js";
import { waitFor } from "../../support/wait.js";

const LIMIT = { timeoutMs: 40_000 };
const SLOW = ["login-per-load", "C_Encrypt sleep 10"];

/** Sends concurrent requests until there are several lanes; none of the requests may fail. */
async function growsBy(encrypt: () => Promise<unknown>, { hsm }: OpenedToken): Promise<void> {
  await waitFor(
    async () => {
      const codes = await Promise.all(Array.from({ length: 16 }, () => codeOf(encrypt())));
      expect(new Set(codes)).toEqual(new Set(["done"]));
      return hsm.sessions >= 4;
    },
    { what: "lanes", ...LIMIT },
  );
}

describe("with a library that logs in each load of itself", () => {
  const token = useFaultyToken();

  async function startGrown(pin = (): string => token.fault.pin): Promise<OpenedToken> {
    token.fault.set(...SLOW);
    const before = token.fault.calls("C_Login");
    const opened = await token.start({ requestTimeoutMs: 2_900, sessions: 4, pin });
    await growsBy(() => token.encrypt(opened), opened);
    await waitFor(() => token.fault.calls("C_Login") - before >= 4, {
      what: "a login of each lane",
      ...LIMIT,
    });
    await waitFor(() => token.encrypt(opened), LIMIT);
    return opened;
  }

  it("every lane logs in before it serves", async () => {
    const opened = await startGrown();
    expect(opened.ended).toEqual([]);
    expect(opened.results).not.toContain("login");
  });

  it("a lane that is logged out logs in again, alone", async () => {
    const opened = await startGrown();
    const before = token.fault.calls("C_Login");
    token.fault.set(...SLOW, "logout");
    const codes = await Promise.all(Array.from({ length: 16 }, () => codeOf(token.encrypt(opened))));
    expect(new Set(codes)).toEqual(new Set(["done"]));
    expect(token.fault.calls("C_Login") - before).toBe(1);
    expect(opened.ended).toEqual([]);
  });

  it("a lane whose login is refused leaves its requests to the others, after one attempt", async () => {
    const pin = { now: token.fault.pin };
    const opened = await startGrown(() => pin.now);
    const before = token.fault.calls("C_Login");
    pin.now = "wrong-pin";
    token.fault.set(...SLOW, "logout");
    const codes = await Promise.all(Array.from({ length: 32 }, () => codeOf(token.encrypt(opened))));
    expect(new Set(codes)).toEqual(new Set(["done"]));
    expect(token.fault.calls("C_Login") - before).toBe(1);
    expect(opened.ended).toEqual([]);
  });
});

describe.each(["aes", "hmac"] as const)("with an %s KEK", (kind) => {
  const token: FaultyToken = useFaultyToken(kind);
  const calls =
    kind === "aes"
      ? ["C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt", "C_FindObjectsInit"]
      : ["C_SignInit", "C_Sign", "C_GetAttributeValue"];

  it("a token that reports once that nobody is logged in costs no request", async () => {
    const opened = await token.start({ requestTimeoutMs: 2_900 });
    for (const call of calls) {
      token.fault.set(`${call} rv 0x101 count=1`);
      const body = await token.encrypt(opened);
      expect((await token.decrypt(opened, body)).equals(PLAINTEXT), call).toBe(true);
      expect(await opened.hsm.listKeks(), call).toHaveLength(1);
    }
    expect(opened.ended).toEqual([]);
  });
});

describe("on a token that was reinitialised", () => {
  const token = useFaultyToken();

  it("a login that has no effect ends the host", async () => {
    const opened = await token.start({ requestTimeoutMs: 2_900 });
    token.fault.set("logout", `C_Login rv 0x100 once=${token.fault.path("login")}`);
    await codeOf(token.encrypt(opened));
    await waitFor(() => opened.ended.includes("device"), { what: "the host's end", ...LIMIT });
    await token.recovers(opened);
  });
});

describe("through p11-kit-client", () => {
  const softHsm = createSoftHsm();
  const fault = new FaultModule(softHsm);
  const remote = new P11KitRemote(fault);
  let opened: OpenedToken;

  beforeAll(async () => {
    await remote.start();
    opened = openToken(remote, { requestTimeoutMs: 2_900, sessions: 4 });
  });
  afterAll(async () => {
    await opened.hsm.stop(500);
    remote.remove();
    fault.remove();
    softHsm.remove();
  });

  it("every lane serves through p11-kit-client", async () => {
    const label = "kms-kek@20260101T000000Z";
    const { keyId } = await opened.hsm.generate({ label, ckaId: "0a".repeat(16), kind: "hmac" });
    fault.set("C_Sign sleep 10");
    const request = { keyId, mechanism: 5, aad: Buffer.from("aad"), data: PLAINTEXT };
    await growsBy(() => opened.hsm.encrypt(request, PATIENT_CALLER), opened);
    expect(opened.ended).toEqual([]);
  });
});

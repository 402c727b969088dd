// The slots, tokens, sessions, logins and mechanisms that the fault module emulates.

import { readFileSync, writeFileSync } from "node:fs";

import { describe, expect, test } from "vitest";

import { useFaultModule } from "./fault-fixture.js";
import { Pkcs11Client, type Pkcs11Scope } from "./pkcs11-client.js";
import type { TestToken } from "./token.js";

const { fault, client } = useFaultModule();

const sessionState = ({ module, state }: Pkcs11Scope): number => module.C_GetSessionInfo(state.session).state;
const openSession = ({ state }: Pkcs11Scope): void => {
  state.openSession();
};
const openMore = ({ module, state }: Pkcs11Scope, flags: number): unknown =>
  module.C_OpenSession(state.slot, flags);
const login = ({ state }: Pkcs11Scope): void => {
  state.login();
};
const slots = ({ module }: Pkcs11Scope, present: boolean): number => module.C_GetSlotList(present).length;
const tokenFlags = ({ module, state }: Pkcs11Scope): number =>
  module.C_GetTokenInfo(state.slot).flags & 0x70000;

describe("sessions", () => {
  test("session-loss ends the open sessions once, and the login with them", async () => {
    const hsm = await client();
    await hsm.run(({ module, state }) => void (state.second = module.C_OpenSession(state.slot, 6)));
    fault().set("session-loss");
    expect(await hsm.code(sessionState)).toBe(0xb3);
    expect(await hsm.code(({ module, state }) => module.C_GetSessionInfo(state.second).state)).toBe(0xb3);
    expect(await hsm.code(openSession)).toBe(0);
    expect(await hsm.run(sessionState)).toBe(2);
    expect(await hsm.code(login)).toBe(0);
    expect(await hsm.run(sessionState)).toBe(3);
  });

  test("session-limit refuses one more, until one is closed", async () => {
    const hsm = await client();
    fault().set("session-limit 2");
    expect(await hsm.code(({ module, state }) => (state.second = module.C_OpenSession(state.slot, 6)))).toBe(
      0,
    );
    expect(await hsm.code(openMore, 6)).toBe(0xb1);
    await hsm.run(({ module, state }) => {
      module.C_CloseSession(state.second);
    });
    expect(await hsm.code(openMore, 6)).toBe(0);
    expect(await hsm.run(({ module, state }) => module.C_GetTokenInfo(state.slot).maxSessionCount)).toBe(2);
  });

  test("refuse-ro-sessions takes read-write ones only", async () => {
    const hsm = await client();
    fault().set("refuse-ro-sessions");
    expect([await hsm.code(openMore, 4), await hsm.code(openMore, 6)]).toEqual([0x54, 0]);
    fault().set("refuse-ro-sessions 0xE2");
    expect(await hsm.code(openMore, 4)).toBe(0xe2);
  });

  test("logout: private objects are not found, without an error, and the session is public", async () => {
    const hsm = await client();
    const count = ({ state }: Pkcs11Scope): unknown => state.count("kek");
    await hsm.run(({ state }) => void state.makeKey());
    expect(await hsm.run(count)).toBe(1);
    fault().set("logout");
    expect(await hsm.run(count)).toBe(0);
    expect(await hsm.run(sessionState)).toBe(2);
    expect(await hsm.code(login)).toBe(0);
    expect(await hsm.run(count)).toBe(1);
  });
});

describe("absence", () => {
  test("token-removed empties the slot; afterwards old sessions are invalid and logged out", async () => {
    const hsm = await client();
    fault().set("token-removed");
    expect(await hsm.run(slots, true)).toBe(0);
    expect(await hsm.run(slots, false)).toBeGreaterThan(0);
    expect(await hsm.run(({ module, state }) => module.C_GetSlotInfo(state.slot).flags & 1)).toBe(0);
    expect(await hsm.code(tokenFlags)).toBe(0xe0);
    expect(await hsm.code(openMore, 6)).toBe(0xe0);
    expect(await hsm.code(sessionState)).toBe(0x32);
    fault().clear();
    expect(await hsm.code(sessionState)).toBe(0xb3);
    await hsm.run(openSession);
    expect(await hsm.run(sessionState)).toBe(2);
  });

  test("device-error stays until the library is finalised and initialised without it", async () => {
    const hsm = await client();
    const initialise = ({ state }: Pkcs11Scope): void => {
      state.initialise();
    };
    const finalise = ({ module }: Pkcs11Scope): void => {
      module.C_Finalize();
    };
    fault().set("device-error");
    expect(await hsm.code(sessionState)).toBe(0x30);
    expect(await hsm.code(slots, true)).toBe(0x30);
    fault().clear();
    expect(await hsm.code(sessionState)).toBe(0x30);
    expect(await hsm.code(openSession)).toBe(0x30);
    fault().set("device-error");
    expect([await hsm.code(finalise), await hsm.code(initialise)]).toEqual([0, 0]);
    expect(await hsm.run(slots, true)).toBe(0);
    fault().clear();
    expect(await hsm.run(slots, true)).toBe(0);
    expect(await hsm.code(openMore, 6)).toBe(0x30);
    expect([await hsm.code(finalise), await hsm.code(initialise)]).toEqual([0, 0]);
    expect([await hsm.code(openSession), await hsm.code(login)]).toEqual([0, 0]);
  });
});

describe("pin-counter", () => {
  const withPin = (pin: string): TestToken => {
    const { modulePath, label, pinFile, env } = fault();
    return { modulePath, label, pin, pinFile, env, remove: () => undefined };
  };
  const opened = async (pin: string): Promise<Pkcs11Client> => {
    const hsm = new Pkcs11Client(withPin(pin));
    await hsm.run(({ state }) => {
      state.load();
      state.initialise();
      state.openSession();
    });
    return hsm;
  };

  test("counts wrong PINs over processes, warns by flags, locks, and forgets after the right one", async () => {
    fault().set(`pin-counter 3 ${fault().path("pins")}`);
    const [first, second, right] = [await opened("wrong"), await opened("wrong"), await opened("1234")];
    expect(await right.run(tokenFlags)).toBe(0);
    expect(await first.code(login)).toBe(0xa0);
    expect(await right.run(tokenFlags)).toBe(0x10000);
    expect(await second.code(login)).toBe(0xa0);
    expect(await right.run(tokenFlags)).toBe(0x30000);
    expect(await right.code(login)).toBe(0);
    expect(await right.run(tokenFlags)).toBe(0);
    for (const hsm of [first, second, first]) expect(await hsm.code(login)).toBe(0xa0);
    expect(await second.run(tokenFlags)).toBe(0x40000);
    const late = await opened("1234");
    expect(await late.code(login)).toBe(0xa4);
    await Promise.all([first, second, right, late].map((hsm) => hsm.kill()));
  });

  test("silent counts without flags", async () => {
    fault().set(`pin-counter 1 ${fault().path("pins")} silent`);
    const hsm = await opened("wrong");
    expect([await hsm.code(login), await hsm.run(tokenFlags), await hsm.code(login)]).toEqual([
      0xa0, 0, 0xa4,
    ]);
    await hsm.kill();
  });
});

describe("mechanisms", () => {
  const listed = ({ module, state }: Pkcs11Scope): number[] => module.C_GetMechanismList(state.slot);
  const info = ({ module, state }: Pkcs11Scope, type: number): unknown =>
    module.C_GetMechanismInfo(state.slot, type);
  const digest = ({ module, state }: Pkcs11Scope, type: number): void => {
    module.C_DigestInit(state.session, { mechanism: type });
    module.C_Digest(state.session, Buffer.from("data"), Buffer.alloc(64));
  };

  test("no-mechanism hides some", async () => {
    const hsm = await client();
    expect(await hsm.run(listed)).toContain(0x250);
    fault().set("no-mechanism 0x250,0x270");
    const now = await hsm.run(listed);
    expect(now).not.toContain(0x250);
    expect(now).not.toContain(0x270);
    expect(now).toContain(0x260);
    expect([
      await hsm.code(info, 0x250),
      await hsm.code(digest, 0x250),
      await hsm.code(digest, 0x260),
    ]).toEqual([0x70, 0x70, 0]);
  });

  test("only-mechanisms hides all others, making keys included", async () => {
    const hsm = await client();
    fault().set("only-mechanisms 0x250, 0x1087");
    expect([...(await hsm.run(listed))].sort()).toEqual([0x250, 0x1087].sort());
    expect([await hsm.code(digest, 0x250), await hsm.code(digest, 0x260)]).toEqual([0, 0x70]);
    expect(await hsm.code(({ state }) => state.makeKey())).toBe(0x70);
  });

  test("refuse-mechanism is listed and yet not performed", async () => {
    const hsm = await client();
    fault().set("refuse-mechanism 0x250");
    expect(await hsm.run(listed)).toContain(0x250);
    expect([await hsm.code(info, 0x250), await hsm.code(digest, 0x250)]).toEqual([0, 0x70]);
  });

  test("decrypt-only refuses to encrypt under a mechanism that still decrypts", async () => {
    const hsm = await client();
    const sealed = await hsm.run(({ state }) => {
      state.key = state.makeKey();
      return state.encrypt(state.key, Buffer.alloc(12, 1), Buffer.from("a text")).toString("hex");
    });
    fault().set("decrypt-only 0x1087");
    const encrypted = ({ state }: Pkcs11Scope): Buffer =>
      state.encrypt(state.key, Buffer.alloc(12, 1), Buffer.alloc(8));
    const decrypted = ({ state }: Pkcs11Scope, hex: string): string =>
      state.decrypt(state.key, Buffer.alloc(12, 1), Buffer.from(hex, "hex")).toString();
    expect([await hsm.code(encrypted), await hsm.run(decrypted, sealed)]).toEqual([0x68, "a text"]);
  });
});

test("a target that cannot be loaded is an error, not a crash", async () => {
  const hsm = new Pkcs11Client(fault(), { env: { FAULT_MODULE_TARGET: "/nonexistent.so" } });
  await expect(
    hsm.run(({ state }) => {
      state.load();
    }),
  ).rejects.toThrow();
  await hsm.kill();
});

test("variables name the control file and the log in place of those beside the module", async () => {
  const [control, log] = [fault().path("elsewhere"), fault().path("elsewhere.log")];
  writeFileSync(control, "log C_Initialize\nC_Initialize rv 0x30\n");
  const hsm = new Pkcs11Client(fault(), { env: { FAULT_MODULE_CONTROL: control, FAULT_MODULE_LOG: log } });
  await expect(hsm.open()).rejects.toMatchObject({ code: 0x30 });
  expect(readFileSync(log, "utf8")).toMatch(/^C_Initialize rv=0x30 pid=\d+ tid=\d+ at=[\d.]+ ms=[\d.]+\n$/);
  await hsm.kill();
});

test("broken-slot lists one more slot, of which one function cannot tell anything", async () => {
  const hsm = await client();
  const count = await hsm.run(slots, true);
  const info = ({ module }: Pkcs11Scope, name: "C_GetSlotInfo" | "C_GetTokenInfo"): unknown =>
    module[name](module.C_GetSlotList(true)[0] ?? Buffer.alloc(8));
  fault().set("broken-slot C_GetSlotInfo 0x30");
  expect(await hsm.run(slots, true)).toBe(count + 1);
  expect(await hsm.code(info, "C_GetSlotInfo")).toBe(0x30);
  fault().set("broken-slot C_GetTokenInfo 0x5");
  expect(await hsm.code(info, "C_GetSlotInfo")).toBe(0);
  expect(await hsm.code(info, "C_GetTokenInfo")).toBe(0x5);
});

// The tokens of the tests: each can be made, performs what the tests rely on, and leaves nothing behind.

import { existsSync, readFileSync } from "node:fs";

import { afterEach, expect, test } from "vitest";

import { createNss } from "./nss.js";
import { P11KitRemote } from "./p11kit-remote.js";
import { Pkcs11Client, type Pkcs11Scope } from "./pkcs11-client.js";
import { createSoftHsm } from "./softhsm.js";
import { runTool, tokenUri, type TestToken } from "./token.js";
import { waitFor } from "./wait.js";
import { FaultModule } from "./fault-module.js";

const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

const keep = <T extends TestToken>(token: T): T => {
  cleanUp.push(() => {
    token.remove();
  });
  return token;
};
const open = async (token: TestToken): Promise<Pkcs11Client> => {
  const client = new Pkcs11Client(token);
  cleanUp.push(() => client.kill());
  await client.open();
  return client;
};
const roundTrip = ({ state }: Pkcs11Scope): string => {
  const key = state.makeKey({ 1: false });
  const iv = Buffer.alloc(12, 7);
  return state.decrypt(key, iv, state.encrypt(key, iv, Buffer.from("text"))).toString();
};
const label = ({ module, state }: Pkcs11Scope): string => module.C_GetTokenInfo(state.slot).label.trim();
const sessionState = ({ module, state }: Pkcs11Scope): number => module.C_GetSessionInfo(state.session).state;

test("SoftHSM: two tokens under one configuration, a PIN file, and a folder that goes away", async () => {
  const token = keep(createSoftHsm({ label: "first" }));
  const other = token.add({ label: "second", pin: "9999" });
  expect(readFileSync(token.pinFile, "utf8")).toBe("1234");
  const [one, two] = [await open(token), await open(other)];
  expect([await one.run(label), await two.run(label)]).toEqual(["first", "second"]);
  expect(await one.run(roundTrip)).toBe("text");
  token.remove();
  expect(existsSync(token.folder)).toBe(false);
});

test("SoftHSM: reinitialise empties the token", async () => {
  const token = keep(createSoftHsm());
  const before = await open(token);
  await before.run(({ state }) => void state.makeKey());
  await before.kill();
  token.reinitialise();
  const after = await open(token);
  expect(await after.run(({ state }) => state.count("kek"))).toBe(0);
});

test("a missing tool is an error with the line that installs it", () => {
  expect(() => runTool("no-such-tool", [], "apt-get install it")).toThrow(
    "no-such-tool is missing: apt-get install it",
  );
});

test("tokenUri names the object, the module and the PIN file", () => {
  const token = keep(createSoftHsm({ label: "a b" }));
  expect(tokenUri(token, "kms-kek")).toBe(
    `pkcs11:token=a%20b;object=kms-kek?module-path=${token.modulePath}&pin-source=file:${token.pinFile}`,
  );
});

test("NSS softokn, alone and behind the fault module", async () => {
  const token = keep(createNss());
  const client = await open(token);
  expect(await client.run(roundTrip)).toBe("text");
  const fault = keep(new FaultModule(token));
  const faulty = await open(fault);
  expect(await faulty.run(roundTrip)).toBe("text");
  fault.set("session-loss");
  expect(await faulty.code(sessionState)).toBe(0xb3);
  expect(fault.calls("C_Login")).toBe(1);
});

test("p11-kit remote: hangs while stopped, fails once killed, works after initialising again", async () => {
  const remote = keep(new P11KitRemote(keep(createSoftHsm())));
  await remote.start();
  const client = await open(remote);
  expect(await client.run(sessionState)).toBe(3);

  remote.stop();
  const pending = client.run(sessionState);
  const first = await Promise.race([pending, new Promise((done) => setTimeout(done, 150, "hung"))]);
  expect(first).toBe("hung");
  remote.resume();
  expect(await pending).toBe(3);

  await remote.kill();
  expect(await client.code(sessionState)).toBe(0x30);
  await remote.restart();
  expect(await client.code(sessionState)).toBe(0x30);
  const recover = ({ module, state }: Pkcs11Scope): void => {
    module.C_Finalize();
    state.initialise();
    state.openSession();
    state.login();
  };
  expect(await client.code(recover)).toBe(0);
  expect(await client.run(sessionState)).toBe(3);
});

test("waitFor returns the value, or names what it waited for in vain", async () => {
  let looks = 0;
  expect(await waitFor(() => (++looks === 3 ? "there" : undefined), { intervalMs: 1 })).toBe("there");
  const failing = (): never => {
    throw new Error("not yet");
  };
  await expect(waitFor(failing, { what: "rain", timeoutMs: 20 })).rejects.toThrow(
    "waited 20 ms in vain for rain",
  );
});

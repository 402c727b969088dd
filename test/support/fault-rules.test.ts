// The rules of the fault module's control file: what an action does, for which calls, and how often.

import { existsSync } from "node:fs";

import { describe, expect, test } from "vitest";

import { useFaultModule } from "./fault-fixture.js";
import type { Pkcs11Scope } from "./pkcs11-client.js";
import { waitFor } from "./wait.js";

const { fault, client, closedClient } = useFaultModule();

const sessionInfo = ({ module, state }: Pkcs11Scope): number => module.C_GetSessionInfo(state.session).state;
const random = ({ module, state }: Pkcs11Scope): number =>
  module.C_GenerateRandom(state.session, Buffer.alloc(8)).length;

const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const started = performance.now();
  await work();
  return performance.now() - started;
};

describe("actions", () => {
  test("without rules every call reaches the token", async () => {
    const hsm = await client();
    expect(await hsm.run(sessionInfo)).toBe(3);
    expect(fault().calls("C_Login")).toBe(1);
    expect(fault().calls("C_GetSessionInfo")).toBe(1);
    expect(fault().calls()).toBeGreaterThan(5);
  });

  test("sleep delays the function it names, `*` all of them, from the next call on", async () => {
    const hsm = await client();
    fault().set("C_GetSessionInfo sleep 150");
    expect(await timed(() => hsm.run(sessionInfo))).toBeGreaterThan(145);
    fault().set("* sleep 120");
    expect(await timed(() => hsm.run(random))).toBeGreaterThan(115);
    // Longer than any delay on a busy machine.
    fault().set("C_GetSessionInfo sleep 30000");
    expect(await timed(() => hsm.run(random))).toBeLessThan(30_000);
    fault().set("* sleep 30000");
    fault().clear();
    expect(await timed(() => hsm.run(random))).toBeLessThan(30_000);
  });

  test("alter changes one bit of an output, and only where there is one", async () => {
    const hsm = await client();
    await hsm.run(({ state }) => {
      state.key = state.makeKey();
    });
    const encryptedTwice = ({ state: { key, encrypt } }: Pkcs11Scope): string[] => {
      const iv = Buffer.alloc(12, 1);
      return [1, 2].map(() => encrypt(key, iv, Buffer.alloc(32)).toString("hex"));
    };
    const [right = ""] = await hsm.run(encryptedTwice);
    fault().set("C_Encrypt alter 3 skip=1 count=1");
    const [first = "", second = ""] = await hsm.run(encryptedTwice);
    expect(first).toBe(right);
    const changed = [...Buffer.from(second, "hex")].map(
      (byte, at) => byte ^ (Buffer.from(right, "hex")[at] ?? 0),
    );
    expect(changed).toEqual(changed.map((_, at) => Number(at === 3)));
    expect(await hsm.run(encryptedTwice)).toEqual([right, right]);
  });

  test("rv answers without asking the token; with `after` the token has done it", async () => {
    const hsm = await client();
    await hsm.run(({ module, state }) => {
      module.C_CloseSession(state.session);
    });
    fault().set("C_OpenSession rv 0x30 count=1");
    const open = ({ state }: Pkcs11Scope): void => {
      state.openSession();
    };
    expect(await hsm.code(open)).toBe(0x30);
    expect(await hsm.code(open)).toBe(0);
    fault().set("C_Login rv 0x30 after count=1");
    const login = ({ state }: Pkcs11Scope): void => {
      state.login();
    };
    expect(await hsm.code(login)).toBe(0x30);
    expect(await hsm.run(sessionInfo)).toBe(3);
  });

  test("an rv in place of C_Encrypt leaves the operation active, as tokens do", async () => {
    const hsm = await client();
    const encrypt = ({ state }: Pkcs11Scope): unknown => {
      if (!state.kept.includes("key")) state.kept.push("key", (state.key = state.makeKey({ 1: false })));
      return state.encrypt(state.key, Buffer.alloc(12, 1), Buffer.from("data"));
    };
    fault().set("C_Encrypt rv 0x5 count=1");
    expect([await hsm.code(encrypt), await hsm.code(encrypt)]).toEqual([0x5, 0x90]);
  });

  test.each([
    ["abort", "SIGABRT"],
    ["segv", "SIGSEGV"],
  ])("%s ends the process by %s", async (action, signal) => {
    const hsm = await client();
    fault().set(`C_GenerateRandom ${action}`);
    await expect(hsm.run(random)).rejects.toMatchObject({ signal });
  });

  test("exit ends the process with a code", async () => {
    const hsm = await client();
    fault().set("C_GenerateRandom exit 7");
    await expect(hsm.run(random)).rejects.toMatchObject({ exitCode: 7 });
  });

  test("hang never returns, and only SIGKILL ends it", async () => {
    const hsm = await client();
    fault().set("C_GenerateRandom hang");
    const hung = hsm.run(random);
    const outcome = await Promise.race([
      hung.catch(() => "ended"),
      new Promise((done) => setTimeout(done, 150, "hung")),
    ]);
    expect(outcome).toBe("hung");
    expect(await hsm.kill()).toMatchObject({ signal: "SIGKILL" });
    await expect(hung).rejects.toMatchObject({ signal: "SIGKILL" });
  });

  test("leak keeps memory at every call", async () => {
    const hsm = await client();
    const rss = (): number => process.memoryUsage.rss();
    const before = await hsm.run(rss);
    fault().set("C_GenerateRandom leak 1048576");
    for (let i = 0; i < 40; i++) await hsm.run(random);
    expect((await hsm.run(rss)) - before).toBeGreaterThan(35 * 1048576);
  });

  test("at-load and at-exit crash while the library is loaded and unloaded", async () => {
    fault().set("at-load segv once=" + fault().path("loaded"));
    await expect(closedClient().open()).rejects.toMatchObject({ signal: "SIGSEGV" });
    const hsm = await client();
    fault().set("at-exit abort");
    expect(await hsm.exit()).toMatchObject({ signal: "SIGABRT" });
  });

  test("a crash in C_Initialize and in C_GetFunctionList", async () => {
    fault().set("C_Initialize abort");
    await expect(closedClient().open()).rejects.toMatchObject({ signal: "SIGABRT" });
    fault().set("C_GetFunctionList segv");
    await expect(closedClient().open()).rejects.toMatchObject({ signal: "SIGSEGV" });
  });

  test("an unknown line ends the process, so that no test takes it for a rule that did not fire", async () => {
    fault().set("C_Encrypt slep 5");
    await expect(closedClient().open()).rejects.toMatchObject({ signal: "SIGABRT" });
  });
});

describe("how often", () => {
  const codes = async (times: number): Promise<number[]> => {
    const hsm = await client();
    const found: number[] = [];
    for (let i = 0; i < times; i++) found.push(await hsm.code(random));
    return found;
  };

  test("count=N and skip=N choose the calls of this process", async () => {
    fault().set("# a comment", "C_GenerateRandom rv 0x5 skip=1 count=2 # and one more");
    expect(await codes(5)).toEqual([0, 5, 5, 0, 0]);
    expect(await codes(2)).toEqual([0, 5]);
  });

  test("p=X fires with that probability", async () => {
    fault().set("C_GenerateRandom rv 0x5 p=0.5");
    const failed = (await codes(200)).filter((code) => code === 5).length;
    expect(failed).toBeGreaterThan(60);
    expect(failed).toBeLessThan(140);
  });

  test("once=FILE fires once over all processes", async () => {
    const marker = fault().path("fired");
    fault().set(`C_GenerateRandom segv once=${marker}`);
    const first = await client();
    await expect(first.run(random)).rejects.toMatchObject({ signal: "SIGSEGV" });
    expect(existsSync(marker)).toBe(true);
    expect(await codes(3)).toEqual([0, 0, 0]);
  });

  test("of two rules for one function the first rv counts, and sleeps add up", async () => {
    const hsm = await client();
    fault().set(
      "C_GenerateRandom sleep 60",
      "* sleep 60",
      "C_GenerateRandom rv 0x5",
      "C_GenerateRandom rv 0x6",
    );
    const took = await timed(async () => {
      expect(await hsm.code(random)).toBe(5);
    });
    expect(took).toBeGreaterThan(115);
  });
});

describe("what was called", () => {
  test("log records the calls that it names", async () => {
    fault().set("log C_Login C_GenerateRandom", "C_GenerateRandom rv 0x30", "C_Login sleep 30");
    const hsm = await client();
    await hsm.code(random);
    expect(fault().log()).toMatchObject([
      { name: "C_Login", rv: 0, pid: hsm.pid },
      { name: "C_GenerateRandom", rv: 0x30, pid: hsm.pid },
    ]);
    expect(fault().log()[0]?.ms).toBeGreaterThan(29);
    expect(Math.abs((fault().log()[0]?.at ?? 0) - Date.now())).toBeLessThan(10_000);
  });

  test("calls are counted over processes, those included that end in a crash", async () => {
    fault().set("C_GenerateRandom segv");
    for (const hsm of [await client(), await client()]) await hsm.run(random).catch(() => undefined);
    expect(fault().calls("C_GenerateRandom")).toBe(2);
    expect(fault().calls("C_Login")).toBe(2);
  });
});

test("threads sleep side by side, and a hung one holds up nobody", async () => {
  const hsm = await client();
  const threads = ({ module, state }: Pkcs11Scope, count: number): void => {
    // The library's own threads: pkcs11js runs each callback form in one of libuv's.
    state.kept = [];
    for (let i = 0; i < count; i++) {
      const session = module.C_OpenSession(state.slot, 6);
      module.C_DigestInit(session, { mechanism: 0x250 });
      module.C_Digest(session, Buffer.from("data"), Buffer.alloc(32), () => void state.kept.push("done"));
    }
  };
  const done = ({ state }: Pkcs11Scope): number => state.kept.length;
  fault().set("log C_Digest", "C_Digest sleep 500");
  await hsm.run(threads, 3);
  await waitFor(async () => (await hsm.run(done)) === 3);
  const slept = fault()
    .log()
    .filter(({ name, pid }) => name === "C_Digest" && pid === hsm.pid);
  expect(slept).toHaveLength(3);
  // The last began before the first ended.
  expect(Math.max(...slept.map(({ at }) => at))).toBeLessThan(
    Math.min(...slept.map(({ at, ms }) => at + ms)),
  );
  fault().set("C_Digest hang count=1");
  await hsm.run(threads, 3);
  await waitFor(async () => (await hsm.run(done)) === 2);
});

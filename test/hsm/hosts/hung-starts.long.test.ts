// Starts of token hosts while the HSM hangs: the oldest start gets its full time, others are repeated beside it, so
// that one succeeds soon after the hang; and no login is made that the PIN policy does not allow.

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { Starts, type Step } from "../../../src/hsm/hosts/starts.js";
import type { EndCause, HostProcess } from "../../../src/hsm/hosts/host-process.js";
import { codeOf, useFaultyToken } from "../../support/faulty-token.js";
import { waitFor } from "../../support/wait.js";

/** Longer than any test, so that a test that waits for it fails. */
const START_TIMEOUT_MS = 600_000;
const LIMIT = { timeoutMs: 60_000 };

describe("starts on a token that has been open before", () => {
  const token = useFaultyToken();
  const hangs = ({ ended }: { readonly ended: readonly string[] }): number =>
    ended.filter((cause) => cause === "hang").length;

  it.each([
    [1, "*"],
    [2, "C_Initialize"],
    [2, "C_GetSessionInfo"],
    [2, "C_FindObjectsInit"],
  ])("with %i hosts, a start succeeds after a hang of %s", async (hosts, name) => {
    const opened = await token.start({ hosts, startTimeoutMs: START_TIMEOUT_MS });
    token.fault.set(`${name} hang`);
    for (const pid of opened.hsm.pids) process.kill(pid, "SIGKILL");
    await waitFor(() => hangs(opened) >= 2, { what: "starts that were given up", ...LIMIT });
    expect(await codeOf(token.encrypt(opened))).not.toBe("done");
    token.fault.clear();
    await token.recovers(opened);
    await waitFor(() => opened.hsm.readyHosts === hosts, { what: "all hosts", ...LIMIT });
  });

  it("the token is read on a reloaded library although a start has hung just before", async () => {
    const opened = await token.start({ startTimeoutMs: START_TIMEOUT_MS });
    token.fault.set(`C_Initialize hang once=${token.fault.path("hung")}`);
    // A second start succeeds beside the one that hangs, whose failure is the latest when the next reading begins.
    for (let reading = 0; reading < 2; reading++) {
      expect(await opened.hsm.listKeksReloaded()).toMatchObject([{ keyId: token.keyId }]);
    }
    expect(opened.ended).toContain("hang");
  });

  it("a login that hangs is made by one host at a time", async () => {
    const opened = await token.start({ hosts: 2, startTimeoutMs: START_TIMEOUT_MS });
    const before = token.fault.calls("C_Login");
    token.fault.set("C_Login hang");
    for (const pid of opened.hsm.pids) process.kill(pid, "SIGKILL");
    await waitFor(
      () => {
        const logins = token.fault.calls("C_Login") - before;
        expect(logins).toBeLessThanOrEqual(hangs(opened) + 1);
        return logins >= 2;
      },
      { what: "a second login", intervalMs: 10, ...LIMIT },
    );
    token.fault.clear();
    await token.recovers(opened);
  });
});

describe("starts on a token that has not been open before", () => {
  const token = useFaultyToken();

  it("a start succeeds after a hang before the login", async () => {
    token.fault.set("C_Initialize hang");
    const opened = token.open({ hosts: 2, startTimeoutMs: START_TIMEOUT_MS });
    await waitFor(() => opened.ended.includes("hang"), { what: "a start that was given up", ...LIMIT });
    token.fault.clear();
    await token.recovers(opened);
  });
});

describe("several starts", () => {
  let killed: [string, EndCause][];
  let late: number;
  let starts: Starts;

  beforeEach(() => {
    vi.useFakeTimers();
    killed = [];
    late = 0;
    starts = new Starts(30_000, () => late++);
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  /** Begins a start whose first step lasts until its host is killed, or `end` is called. */
  function begin(name: string, first: Step = "open"): { end: () => void; started: Promise<string> } {
    let end = (): void => undefined;
    let fail = (): void => undefined;
    const opened = new Promise<void>((resolve, reject) => {
      end = resolve;
      fail = () => {
        reject(new Error("killed"));
      };
    });
    const kill = (cause: EndCause): void => {
      killed.push([name, cause]);
      fail();
    };
    const host = { kill } as unknown as HostProcess;
    const started = starts
      .run(host, (step) => step(first, () => opened))
      .then(
        () => "ready",
        () => "ended",
      );
    return { end, started };
  }

  it("the oldest start is kept until its limit, those beside it are given up earlier", async () => {
    const oldest = begin("oldest");
    const younger = begin("younger");
    await vi.advanceTimersByTimeAsync(3_100);
    expect(killed).toEqual([["younger", "hang"]]);
    expect([starts.isLate, late, starts.underWay]).toEqual([true, 1, 1]);
    expect(await younger.started).toBe("ended");
    await vi.advanceTimersByTimeAsync(26_500);
    expect(killed).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(await oldest.started).toBe("ended");
    expect(killed).toEqual([
      ["younger", "hang"],
      ["oldest", "hang"],
    ]);
  });

  it("the oldest start is given up once it is late and another has succeeded", async () => {
    const oldest = begin("oldest");
    const quick = begin("quick");
    quick.end();
    await quick.started;
    expect(killed).toEqual([]);
    await vi.advanceTimersByTimeAsync(3_100);
    const another = begin("another");
    another.end();
    expect(await another.started).toBe("ready");
    expect(await oldest.started).toBe("ended");
  });

  it("starts beside one that hangs are repeated at the same interval for five minutes", async () => {
    starts = new Starts(START_TIMEOUT_MS, () => late++);
    begin("oldest");
    for (let round = 0; round < 90; round++) {
      begin("younger");
      await vi.advanceTimersByTimeAsync(3_100);
    }
    expect(killed).toHaveLength(90);
  });

  it("starts beside one that has hung for more than five minutes get more and more time", async () => {
    starts = new Starts(START_TIMEOUT_MS, () => late++);
    begin("oldest");
    for (let round = 0; round < 36; round++) {
      begin("younger");
      await vi.advanceTimersByTimeAsync(10_000);
    }
    expect(killed).toHaveLength(36);
    const slow = begin("slow");
    await vi.advanceTimersByTimeAsync(8_000);
    slow.end();
    expect(await slow.started).toBe("ready");
  });

  it("a process that is slow to load its packages is not given up", async () => {
    begin("oldest");
    const loading = begin("loading", "spawn");
    await vi.advanceTimersByTimeAsync(20_000);
    expect(killed).toEqual([]);
    loading.end();
    expect(await loading.started).toBe("ready");
  });

  it("a step may take three times as long as it took last", async () => {
    const first = begin("first");
    await vi.advanceTimersByTimeAsync(4_000);
    first.end();
    expect(await first.started).toBe("ready");
    begin("oldest");
    begin("younger");
    await vi.advanceTimersByTimeAsync(11_900);
    expect(killed).toEqual([]);
    await vi.advanceTimersByTimeAsync(200);
    expect(killed).toEqual([["younger", "hang"]]);
  });
});

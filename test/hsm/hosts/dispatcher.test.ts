// How often the dispatcher sends one request to the hosts of a token. The test supplies the replies of their lanes.

import { afterEach, expect, it } from "vitest";

import { Dispatcher } from "../../../src/hsm/hosts/dispatcher.js";
import type { HostProcess } from "../../../src/hsm/hosts/host-process.js";
import type { LaneClient, Reply } from "../../../src/hsm/hosts/lane-client.js";
import type { HostPool } from "../../../src/hsm/hosts/pool.js";
import { PATIENT_CALLER } from "../../../src/hsm/port.js";
import { Op } from "../../../src/hsm/wire-calls.js";
import { waitFor } from "../../support/wait.js";

const REQUEST = { keyId: "01.n", mechanism: 1, aad: Buffer.alloc(0), data: Buffer.alloc(0) };
const LOGGED_OUT: Reply = {
  ok: false,
  failure: { code: "SESSION_LOST", message: "logged out", fault: "login" },
};

/** A host with one lane, which keeps its requests until the test answers them. */
class FakeHost {
  readonly sent: ((reply: Reply) => void)[] = [];
  readonly alive = true;
  readonly #lane = {
    send: (_build: unknown, done: (reply: Reply) => void) => this.sent.push(done),
  } as unknown as LaneClient;
  readonly lanes = {
    busySince: undefined,
    pick: () => this.#lane,
    isHung: () => false,
    refuse: () => undefined,
  };
}

let dispatcher: Dispatcher;
afterEach(() => {
  dispatcher.stop();
});

it("a request that was sent to two hosts is not sent a third time after a login", async () => {
  const hosts = [new FakeHost(), new FakeHost()] as const;
  let loggedIn = (): void => undefined;
  const login = new Promise<void>((resolve) => (loggedIn = resolve));
  const pool = {
    ready: hosts as unknown as HostProcess[],
    reason: undefined,
    replaceIfBroken: () => undefined,
    loginAgain: () => login,
  } as unknown as HostPool;
  const observer = { hsmCallDone: () => undefined, hostEnded: () => undefined };
  dispatcher = new Dispatcher(pool, { requestTimeoutMs: 400, queue: 10, observer });
  const answer = dispatcher.crypt(Op.encrypt, REQUEST, { ...PATIENT_CALLER, startedAt: Infinity });
  hosts[0].sent[0]?.(LOGGED_OUT);
  await waitFor(() => hosts[1].sent.length === 1, { what: "the second copy", intervalMs: 5 });
  loggedIn();
  await login;
  await new Promise(setImmediate);
  expect(hosts[0].sent).toHaveLength(1);
  hosts[1].sent[0]?.({ ok: true, body: Buffer.from("body") });
  expect((await answer).toString()).toBe("body");
});

// How often the dispatcher sends one request to the hosts of a token. The test supplies the replies of their lanes.

import { afterEach, expect, it } from "vitest";

import { KmsError } from "../../../src/errors.js";
import { Dispatcher } from "../../../src/hsm/hosts/dispatcher.js";
import type { HostProcess } from "../../../src/hsm/hosts/host-process.js";
import type { LaneClient, Reply } from "../../../src/hsm/hosts/lane-client.js";
import type { HostPool } from "../../../src/hsm/hosts/pool.js";
import { BACKGROUND_CALLER, PATIENT_CALLER, PROOF_CALLER } from "../../../src/hsm/port.js";
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
  /** Number of its lanes that have no request. */
  idleLanes = 0;
  readonly lanes = {
    busySince: undefined,
    pick: () => this.#lane,
    take: () => (this.idleLanes-- > 0 ? this.#lane : undefined),
    get idle() {
      return this.take();
    },
    isHung: () => false,
    refuse: () => undefined,
  };
}

let dispatcher: Dispatcher;
afterEach(() => {
  dispatcher.stop();
});

function open(hosts: readonly FakeHost[], pool: object = {}): void {
  const all = {
    ready: hosts as unknown as HostProcess[],
    reason: undefined,
    controls: { replaceIfBroken: () => undefined },
    grow: () => Promise.resolve(false),
    noteProof: () => undefined,
    ...pool,
  } as unknown as HostPool;
  const observer = { hsmCallDone: () => undefined, hostEnded: () => undefined };
  dispatcher = new Dispatcher(all, { requestTimeoutMs: 400, queue: 10, observer });
}

it("a request that was sent to two hosts is not sent a third time after a login", async () => {
  const hosts = [new FakeHost(), new FakeHost()] as const;
  let loggedIn = (): void => undefined;
  const login = new Promise<void>((resolve) => (loggedIn = resolve));
  open(hosts, { loginAgain: () => login });
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

it("background requests take idle lanes of the serving host; all others go first", async () => {
  const hosts = [new FakeHost(), new FakeHost()] as const;
  open(hosts);
  const inBackground = [1, 2].map(() => dispatcher.crypt(Op.decrypt, REQUEST, BACKGROUND_CALLER));
  expect(hosts.map(({ sent }) => sent.length)).toEqual([0, 0]);
  const request = dispatcher.crypt(Op.decrypt, REQUEST, PATIENT_CALLER);
  expect(hosts[0].sent).toHaveLength(1);
  hosts[0].idleLanes = 1;
  hosts[1].idleLanes = 5;
  hosts[0].sent[0]?.({ ok: true, body: Buffer.from("request") });
  expect((await request).toString()).toBe("request");
  expect(hosts.map(({ sent }) => sent.length)).toEqual([2, 0]);
  hosts[0].idleLanes = 1;
  hosts[0].sent[1]?.({ ok: true, body: Buffer.from("background") });
  hosts[0].sent[2]?.({ ok: true, body: Buffer.from("background") });
  expect((await Promise.all(inBackground)).map(String)).toEqual(["background", "background"]);
});

it("a background request is sent once at most, and does not count as late if never sent", async () => {
  const hosts = [new FakeHost(), new FakeHost()] as const;
  hosts[0].idleLanes = 1;
  open(hosts);
  const codes = await Promise.all(
    [1, 2].map(() =>
      dispatcher
        .crypt(Op.decrypt, REQUEST, BACKGROUND_CALLER)
        .catch((error: unknown) => KmsError.from(error).code),
    ),
  );
  expect(codes).toEqual(["DEADLINE", "OVERLOADED"]);
  expect(hosts.map(({ sent }) => sent.length)).toEqual([1, 0]);
});

it("proofs that wait open no further session, and a request that waits does", async () => {
  let asked = 0;
  open([new FakeHost()], { grow: () => asked++ });
  const proofs = [1, 2, 3].map(() => dispatcher.crypt(Op.encrypt, REQUEST, PROOF_CALLER));
  expect(asked).toBe(0);
  const request = dispatcher.crypt(Op.encrypt, REQUEST, PATIENT_CALLER);
  expect(asked).toBe(1);
  dispatcher.stop();
  await expect(Promise.any([...proofs, request])).rejects.toThrow();
});

it.each([
  ["says nothing about the HSM if that answered others meanwhile", true, "OVERLOADED"],
  ["means that the HSM is away if that answered nobody", false, "DEADLINE"],
])("a proof that was never sent %s", async (_title, answers, code) => {
  const host = new FakeHost();
  let isFree = true;
  const lanes = Object.create(host.lanes) as typeof host.lanes;
  const { pick } = lanes;
  lanes.pick = () => (isFree ? pick() : undefined) as ReturnType<typeof pick>;
  open([Object.assign(Object.create(host) as FakeHost, { lanes, sent: host.sent })]);
  const request = dispatcher.crypt(Op.encrypt, REQUEST, PATIENT_CALLER);
  isFree = false;
  const proof = dispatcher.crypt(Op.encrypt, REQUEST, PROOF_CALLER);
  await new Promise((resolve) => setTimeout(resolve, 1));
  if (answers) host.sent[0]?.({ ok: true, body: Buffer.from("body") });
  await expect(proof).rejects.toMatchObject({ code });
  await request.catch(() => undefined);
});

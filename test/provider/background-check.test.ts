// The rounds of the background check: when they take place, and that an aborted signal ends them.

import { beforeEach, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { BackgroundCheck } from "../../src/provider/background-check.js";
import { Health } from "../../src/provider/health.js";
import { Keyring } from "../../src/provider/keyring.js";
import { Outage } from "../../src/provider/outage.js";
import { Prover } from "../../src/provider/prover.js";
import { FakeHsm, SILENT } from "../support/fake-hsm.js";
import { kekRecord } from "../support/kek-record.js";
import { waitFor } from "../support/wait.js";

let hsm: FakeHsm;
let rounds: number;
let check: BackgroundCheck;
let stop: AbortController;

/** Returns a check of the HSM that calls `onRound` after each round. */
function checkOf(onRound: () => void, inUse?: string): BackgroundCheck {
  return new BackgroundCheck({
    keyring: new Keyring({
      hsm,
      requestTimeoutMs: 1_000,
      policy: { objectName: "kms-kek", allowUnprotected: [] },
      log: SILENT,
      onRead: () => undefined,
    }),
    prover: new Prover(hsm, "auto", SILENT),
    health: new Health(hsm, new Outage({ gracePeriodMs: 0, onHsmLoss: "stopWrites" }, SILENT)),
    intervalMs: 3_600_000,
    inUse: () => inUse,
    now: () => Date.now(),
    log: SILENT,
    onRound,
  });
}

beforeEach(() => {
  hsm = new FakeHsm();
  hsm.records = [kekRecord("kms-kek", "a")];
  rounds = 0;
  stop = new AbortController();
  check = checkOf(() => {
    rounds++;
  });
});

it("an aborted signal ends the pause between two rounds", async () => {
  const run = check.run(stop.signal);
  await waitFor(() => rounds === 1);
  stop.abort();
  await run;
  expect(rounds).toBe(1);
});

it("a signal that aborts during a reading ends the check after that round", async () => {
  let end = (): void => undefined;
  const reading = new Promise<void>((resolve) => (end = resolve));
  hsm.listKeks = () => reading.then(() => hsm.records);
  const run = check.run(stop.signal);
  stop.abort();
  end();
  await run;
  expect(rounds).toBe(1);
});

it("a requested round ends the pause, and one requested during a round follows it", async () => {
  const run = check.run(stop.signal);
  await waitFor(() => rounds === 1);
  check.requestRound();
  await waitFor(() => rounds === 2);
  const probe = hsm.decrypt.bind(hsm);
  hsm.decrypt = (request) => {
    hsm.decrypt = probe;
    check.requestRound();
    return probe(request);
  };
  check.requestRound();
  await waitFor(() => rounds === 4);
  stop.abort();
  await run;
});

it("a KEK that fails is tried less and less often if it is not in use", async () => {
  hsm.records = [kekRecord("kms-kek", "a"), kekRecord("kms-kek@20261121T100000Z", "b")];
  const encrypt = hsm.encrypt.bind(hsm);
  hsm.encrypt = (request) =>
    request.keyId === "a"
      ? Promise.reject(new KmsError("KEY_UNSUITABLE", "it may not encrypt"))
      : encrypt(request);
  const counted = { failing: 0, other: 0 };
  const runs = [
    checkOf(() => counted.failing++, "a").run(stop.signal),
    checkOf(() => counted.other++, "b").run(stop.signal),
  ];
  await waitFor(() => counted.failing === 6, { what: "rounds for a KEK in use", timeoutMs: 60_000 });
  expect(counted.other).toBeLessThan(6);
  stop.abort();
  await Promise.all(runs);
});

// A lane of a real token host that is ended and started again: its session and its thread go, and the host goes on.

import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, expect, it } from "vitest";

import { callOn } from "../../../src/hsm/hosts/control-call.js";
import { HostProcess } from "../../../src/hsm/hosts/host-process.js";
import { Op } from "../../../src/hsm/wire-calls.js";
import { SILENT } from "../../support/fake-hsm.js";
import { useToken } from "../../support/token-fixture.js";
import { waitFor } from "../../support/wait.js";

const ENTRY = fileURLToPath(new URL("../../../dist/token-host/main.js", import.meta.url));
const softHsm = useToken({ faults: [] });
let host: HostProcess;

beforeAll(async () => {
  const { modulePath, label, env } = softHsm.fault;
  const open = { modulePath, token: { token: label }, objectName: "kms-kek" };
  const options = { entry: ENTRY, env: { ...process.env, ...env }, open, sessions: 2 };
  host = new HostProcess(options, SILENT);
  await host.open();
});

afterAll(async () => {
  await host.stop(1_000);
});

const threads = (): number => readdirSync(`/proc/${String(host.pid)}/task`).length;

it("a lane that was ended has no session and no thread, and can be started again", async () => {
  const openRequest = { modulePath: softHsm.fault.modulePath, token: {}, objectName: "kms-kek" };
  const described = await host.control(Op.describe, {});
  const before = threads();
  const lane = host.startLane();
  for (let round = 0; round < 3; round++) {
    await callOn(lane, Op.open, { ...openRequest, described });
    expect(threads()).toBeGreaterThan(before);
    const closed = softHsm.fault.calls("C_CloseSession");
    await host.endLane(lane);
    expect(softHsm.fault.calls("C_CloseSession") - closed).toBe(1);
    await waitFor(() => threads() === before, { what: "the end of the thread" });
    expect(await host.control(Op.describe, {})).toEqual(described);
    expect(host.startLane()).toBe(lane);
  }
  expect(host.alive).toBe(true);
});

// The PIN of a token is changed while token hosts are logged in: they are the last that can serve until the source has it.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterEach, beforeEach, expect, it } from "vitest";

import { codeOf, useFaultyToken } from "../../support/faulty-token.js";
import { makeFolder } from "../../support/token.js";
import { waitFor } from "../../support/wait.js";

const WRONG_PIN = "wrong-PIN-8642";
const token = useFaultyToken();
let folder: string;

beforeEach(() => {
  folder = makeFolder("pin");
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

it("a reload of the library leaves the last host that is logged in, while the PIN is refused", async () => {
  const stateDir = join(folder, "state");
  const pinFile = join(folder, "pin");
  writeFileSync(pinFile, token.fault.pin);
  const opened = await token.start({ hosts: 2, pinFile, stateDir });
  const [serving, warm] = opened.hsm.pids;
  writeFileSync(pinFile, WRONG_PIN);
  const logins = (): number => token.fault.calls("C_Login");
  const before = logins();
  process.kill(warm ?? NaN, "SIGKILL");
  await waitFor(() => logins() > before, { what: "the refused login", timeoutMs: 20_000 });
  for (let reload = 0; reload < 2; reload++) {
    expect(await codeOf(opened.hsm.listKeksReloaded())).toBe("HSM_UNAVAILABLE");
    await token.encrypt(opened);
  }
  expect([opened.hsm.pids, logins() - before]).toEqual([[serving], 1]);
  writeFileSync(pinFile, token.fault.pin);
  await waitFor(() => opened.hsm.readyHosts === 2, { what: "both hosts", timeoutMs: 20_000 });
  expect(await opened.hsm.listKeksReloaded()).toHaveLength(1);
});

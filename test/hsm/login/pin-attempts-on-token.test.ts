// A refused PIN on a real token: the token host reads it again when its file changes, but does not log in with the same
// PIN.

import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, it } from "vitest";

import { useFaultyToken } from "../../support/faulty-token.js";
import { makeFolder } from "../../support/token.js";
import type { OpenedToken } from "../../support/token-hsm.js";
import { waitFor } from "../../support/wait.js";

const WRONG_PIN = "wrong-PIN-8642";
const folder = makeFolder("pin-attempts-on-token");
const pinFile = join(folder, "pin");
const stateDir = join(folder, "state");

/** Replaces the file as an agent that copies a secret does: with another inode and another time. */
function replace(pin: string): void {
  writeFileSync(`${pinFile}.new`, pin);
  renameSync(`${pinFile}.new`, pinFile);
}

const token = useFaultyToken();
const openHosts = (): OpenedToken => token.open({ hosts: 2, pinFile, stateDir });

it("a refused PIN is not tried again on a real token when its file is rewritten", async () => {
  writeFileSync(pinFile, WRONG_PIN);
  const before = token.fault.calls("C_Login");
  const opened = openHosts();
  await token.refusesPin(opened, "CKR_PIN_INCORRECT");
  const seen = opened.ended.length;
  replace(`${WRONG_PIN}\n`);
  // The change is noticed: a token host is started, and reads the same PIN.
  await waitFor(() => opened.ended.length > seen, { what: "another start" });
  await token.refusesPin(opened, "not tried again");
  await opened.hsm.stop(200);
  replace(WRONG_PIN);
  const next = openHosts();
  await token.refusesPin(next, "not tried again");
  expect(token.fault.calls("C_Login") - before).toBe(1);
  replace(token.fault.pin);
  await token.recovers(next);
});

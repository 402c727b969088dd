// A PIN or the last share that arrives while a plugin is being locked: nothing of it may outlast the lock.

import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";

import { expect, it } from "vitest";

import { PluginLock } from "../../src/compose/lock.js";
import { ShareUnlock } from "../../src/compose/share-unlock.js";
import type { LockedToken } from "../../src/compose/tokens.js";
import { startUnlocking } from "../../src/compose/unlock-socket.js";
import { prepareSealedPin, publishPrepared } from "../../src/custody/sealed-pin-file.js";
import { encodeShare } from "../../src/custody/share.js";
import { splitPin } from "../../src/custody/split.js";
import { OperatorPin } from "../../src/hsm/login/operator-pin.js";
import { SILENT } from "../support/fake-hsm.js";
import { makeFolder } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const folder = makeFolder("lock");
const nothing = (): void => undefined;

async function send(path: string, message: string): Promise<Record<string, unknown>> {
  const peer = connect({ path, allowHalfOpen: true });
  peer.end(message);
  return JSON.parse(await text(peer)) as Record<string, unknown>;
}

it("a PIN that arrives while the plugin is being locked is refused and forgotten", async () => {
  const path = join(folder, "unlock.sock");
  const held = new OperatorPin({ description: "PIN", missing: "no PIN is held", correction: "" });
  const loggedOut = new EventTarget();
  const hsm = { replaceHosts: () => once(loggedOut, "done"), readyHosts: 0, state: () => ({ up: true }) };
  const token = { held, hsm, hosts: 1, source: { kind: "unlock", path } } as unknown as LockedToken;
  const tokens = { locked: [token], tokens: [token.hsm] };
  const lock = new PluginLock({ hsm: tokens, forgetSeeds: nothing, log: SILENT, record: nothing });
  const running = await startUnlocking({ token, lock, record: nothing, log: SILENT });
  const trying = send(path, "tried before the lock");
  await waitFor(() => held.read().length > 0);
  const locked = send(path, "\0lock");
  await waitFor(() => lock.isInProgress);
  expect(await trying).toMatchObject({
    unlocked: false,
    message: expect.stringMatching(/forgotten$/) as string,
  });
  const answer = await send(path, "tried amid the lock");
  expect(answer).toMatchObject({ unlocked: false, message: expect.stringMatching(/being locked/) as string });
  expect(() => held.read()).toThrow("no PIN is held");
  loggedOut.dispatchEvent(new Event("done"));
  expect(await locked).toMatchObject({ locked: true });
  expect([lock.isLocked, lock.isInProgress]).toEqual([true, false]);
  running.stop();
});

it("the last share that arrives just before a lock opens no PIN", async () => {
  const path = join(folder, "pin.sealed");
  const plan = { token: "token=kms", role: 1, threshold: 2, shares: 2 };
  const { sealed, shares } = await splitPin(Buffer.from("a PIN"), plan);
  prepareSealedPin(path, sealed);
  publishPrepared(path);
  const tried: string[] = [];
  const unlock = new ShareUnlock({
    token: { uri: { token: "kms" }, userType: 1, pin: { kind: "unlock" } } as LockedToken["settings"],
    path,
    isLoggedIn: () => false,
    tryPin: (pin) => {
      tried.push(pin.toString());
      return Promise.resolve({ unlocked: true, message: "" });
    },
    record: nothing,
  });
  const submitAll = async (lockMeanwhile: boolean): Promise<unknown> => {
    const { nonce } = unlock.begin() as { nonce: string };
    const answers = shares.map((share) => unlock.add(nonce, encodeShare(share)));
    if (lockMeanwhile) unlock.clear();
    return (await Promise.all(answers)).at(-1);
  };
  expect(await submitAll(true)).toMatchObject({
    unlocked: false,
    message: expect.stringMatching(/locked/) as string,
  });
  expect(tried).toEqual([]);
  expect(await submitAll(false)).toMatchObject({ unlocked: true });
  expect(tried).toEqual(["a PIN"]);
});

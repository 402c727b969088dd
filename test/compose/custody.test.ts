// A plugin whose PIN is split: custodians unlock it one at a time, and an operator locks it again.

import { readFileSync, statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";

import { beforeAll, expect, it } from "vitest";

import { encodeShare } from "../../src/custody/share.js";
import { prepareSealedPin, publishPrepared } from "../../src/custody/sealed-pin-file.js";
import { splitPin } from "../../src/custody/split.js";
import { runCommand } from "../support/command.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { createKek, type CommandResult } from "../support/plugin-process.js";
import { occurrences } from "../support/process-memory.js";
import { waitFor } from "../support/wait.js";

const PIN = "custodians-only-7391";
let socket: string;
let sealed: string;
let shares: string[];
let outdated: string;
let foreign: string;

const kms = usePlugin(
  ({ token, fault, plugin }) => {
    socket = join(plugin.folder, "run", "unlock.sock");
    sealed = join(plugin.folder, "pin.sealed");
    const uri = `pkcs11:token=${token.label};object=kms-kek?module-path=${fault.modulePath}`;
    const audit = { file: join(plugin.folder, "audit.log") };
    return { keys: { uri }, pin: { unlock: socket, custody: sealed }, audit, hsm: { hosts: 2 } };
  },
  {
    token: { pin: PIN, faults: [] },
    start: false,
    prepare: ({ fault }) => {
      createKek(fault);
    },
  },
);

beforeAll(async () => {
  const plan = { token: `token=${kms.token.label}`, role: 1, threshold: 2, shares: 3 };
  const before = await splitPin(Buffer.from("earlier PIN"), plan);
  const made = await splitPin(Buffer.from(PIN), { ...plan, before: before.sealed });
  const texts = (split: typeof made): string[] => split.shares.map((share) => encodeShare(share).toString());
  [outdated = ""] = texts(before);
  [foreign = ""] = texts(await splitPin(Buffer.from(PIN), plan));
  shares = texts(made);
  prepareSealedPin(sealed, made.sealed);
  publishPrepared(sealed);
  kms.plugin.launch();
  await waitFor(() => statSync(socket, { throwIfNoEntry: false })?.isSocket() === true);
});

const auditText = (): string => readFileSync(join(kms.plugin.folder, "audit.log"), "utf8");
const logins = (): number => kms.fault.calls("C_Login");
const matching = (pattern: RegExp): string => expect.stringMatching(pattern) as string;
const submit = (share: string): Promise<CommandResult> =>
  runCommand(["unlock", "--share", "--socket", socket], {}, share);
const lock = (): Promise<CommandResult> => runCommand(["lock", "--socket", socket]);
const readyz = async (): Promise<string> => (await kms.own.get("/readyz")).text();
const healthz = (): Promise<string> => kms.client.status().then((answer) => answer.healthz, String);
const isOk = (): Promise<boolean> => waitFor(async () => (await readyz()).startsWith("ok"));

async function order(words: string): Promise<Record<string, unknown>> {
  const peer = connect({ path: socket, allowHalfOpen: true });
  peer.end(`\0${words}`);
  return JSON.parse(await text(peer)) as Record<string, unknown>;
}
const nonce = async (): Promise<string> => String((await order("shares"))["nonce"]);

async function unlockTogether(): Promise<void> {
  for (const share of shares.slice(0, 2)) expect((await submit(share)).code).toBe(0);
  await isOk();
}

it("wrong, foreign, outdated and repeated shares spoil nothing and cost no PIN attempt", async () => {
  const [a = "", b = ""] = shares;
  const before = logins();
  expect(await submit(`${b.slice(0, -1)}${b.endsWith("q") ? "p" : "q"}`)).toMatchObject({ code: 1 });
  expect(await submit(a)).toMatchObject({ code: 0, stdout: matching(/^1 of 2 shares/) });
  expect(await submit(foreign)).toMatchObject({ code: 1, stdout: matching(/another PIN/) });
  expect(await submit(outdated)).toMatchObject({ code: 1, stdout: matching(/outdated/) });
  expect(await submit(a)).toMatchObject({ code: 1, stdout: matching(/entered already/) });
  expect(await order(`share ${"0".repeat(32)} ${b}`)).toMatchObject({
    message: matching(/attempt has ended/),
  });
  expect(logins()).toBe(before);
  expect(await submit(b)).toMatchObject({ code: 0, stdout: matching(/2 of 2 shares .*logged in/) });
  await isOk();
});

it("a share is refused while the token is logged in", async () => {
  await waitFor(async () => (await kms.own.metric("token_hosts")) === 2);
  expect(await submit(shares[2] ?? "")).toMatchObject({ stdout: matching(/no share is needed/) });
});

it("shares that arrive at once are counted once each and open the PIN once", async () => {
  expect((await lock()).code).toBe(0);
  const unlocks = (): number => auditText().split('"event":"unlocked"').length - 1;
  const before = unlocks();
  const current = await nonce();
  const answers = await Promise.all(
    [shares[0], shares[0], shares[2], shares[1]].map((share) => order(`share ${current} ${share ?? ""}`)),
  );
  // Each has a connection of its own, and the plugin may read them in any order.
  expect(answers.filter(({ unlocked }) => unlocked)).toHaveLength(1);
  await isOk();
  await waitFor(async () => (await kms.own.metric("token_hosts")) === 2);
  expect(unlocks() - before).toBe(1);
});

it.runIf(process.getuid?.() === 0)(
  "lock removes the PIN and every seed from all processes; unlock works again",
  async () => {
    const mark = Buffer.from("seeds that must be gone ");
    const seeds = Array.from({ length: 40 }, (_, at) =>
      Buffer.concat([mark, Buffer.from(`${100 + at} in all`)]),
    );
    const encrypted = await Promise.all(seeds.map((seed) => kms.client.encrypt(seed, "u")));
    const decrypt = (): Promise<Buffer[]> =>
      Promise.all(encrypted.map((one) => kms.client.decrypt(one, "u")));
    await decrypt();
    const plugin = kms.plugin.pid ?? 0;
    const hosts = readFileSync(`/proc/${plugin}/task/${plugin}/children`, "utf8")
      .trim()
      .split(" ")
      .map(Number);
    expect(occurrences(plugin, Buffer.from(PIN))).toBeGreaterThan(0);
    expect(occurrences(plugin, mark)).toBeGreaterThan(0);
    expect(await lock()).toMatchObject({ code: 0, stdout: matching(/^locked/) });
    for (const pid of [plugin, ...hosts]) {
      expect([occurrences(pid, Buffer.from(PIN)), occurrences(pid, mark)]).toEqual([0, 0]);
    }
    expect(await readyz()).toMatch(/^locked by an operator at .*; run kms-pkcs11 unlock --share --socket /);
    expect(await kms.own.metric("locked")).toBe(1);
    expect(await healthz()).toBe("ok");
    await expect(decrypt()).rejects.toThrow();
    await unlockTogether();
    expect(await decrypt()).toEqual(seeds);
    expect(await kms.own.metric("locked")).toBe(0);
  },
);

it("every share is recorded in the audit log, and no share or PIN is in a log", () => {
  const audit = auditText();
  for (const outcome of ["accepted", "unreadable", "foreign", "outdated", "duplicate", "stale"]) {
    expect(audit).toContain(`"event":"share","outcome":"${outcome}"`);
  }
  expect(audit).toContain('"event":"locked"');
  expect(audit).toContain('"event":"unlocked"');
  for (const secret of [PIN, ...shares.map((share) => share.slice(20))]) {
    expect(`${audit}${kms.plugin.log}`).not.toContain(secret);
  }
});

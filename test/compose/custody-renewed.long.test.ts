// Plugins that still hold the earlier PIN after the custodians have renewed it: how many PIN attempts they spend.

import { copyFileSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { beforeAll, expect, it } from "vitest";

import { encodeShare } from "../../src/custody/share.js";
import { prepareSealedPin, publishPrepared } from "../../src/custody/sealed-pin-file.js";
import { splitPin } from "../../src/custody/split.js";
import { runCommand } from "../support/command.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { childrenOf, createKek, type CommandResult } from "../support/plugin-process.js";
import type { ReachablePlugin } from "../support/reachable-plugin.js";
import { sharesIn } from "../support/share-pages.js";
import { waitFor } from "../support/wait.js";

const socketOf = ({ plugin }: ReachablePlugin): string => join(plugin.folder, "run", "unlock.sock");
const sealedOf = ({ plugin }: ReachablePlugin): string => join(plugin.folder, "pin.sealed");

const kms = usePlugin(
  {},
  {
    token: { faults: [] },
    start: false,
    prepare: ({ fault }) => {
      createKek(fault);
    },
  },
);
const uri = (): string =>
  `pkcs11:token=${kms.token.label};object=kms-kek?module-path=${kms.fault.modulePath}`;
const matching = (pattern: RegExp): string => expect.stringMatching(pattern) as string;
const logins = (): number => kms.fault.calls("C_Login");

/** Three nodes of the token. */
let nodes: ReachablePlugin[];
let shares: string[];
let epoch = 1;

beforeAll(async () => {
  const plan = { token: `token=${kms.token.label}`, role: 1, threshold: 2, shares: 3 };
  const made = await splitPin(Buffer.from(kms.token.pin), plan);
  shares = made.shares.map((share) => encodeShare(share).toString());
  prepareSealedPin(sealedOf(kms.own), made.sealed);
  publishPrepared(sealedOf(kms.own));
  await startNodes();
});

const hostsOf = (node: ReachablePlugin): Promise<number | undefined> => node.metric("token_hosts");

async function unlock(node: ReachablePlugin): Promise<void> {
  for (const share of shares.slice(0, 2)) {
    expect(await runCommand(["unlock", "--share", "--socket", socketOf(node)], {}, share)).toMatchObject({
      code: 0,
    });
  }
  await waitFor(async () => (await hostsOf(node)) === 2);
}

async function startNodes(): Promise<void> {
  nodes = [await kms.add(), await kms.add(), await kms.add()];
  for (const node of nodes) {
    const pin = { unlock: socketOf(node), custody: sealedOf(node) };
    node.configure({ keys: { uri: uri() }, pin, hsm: { hosts: 2 } });
    copyFileSync(sealedOf(kms.own), sealedOf(node));
    node.plugin.launch();
    await waitFor(() => statSync(socketOf(node), { throwIfNoEntry: false })?.isSocket() === true);
    await unlock(node);
  }
}

/** Renews the PIN on a machine that is none of the nodes. */
async function renew(...options: string[]): Promise<CommandResult> {
  const place = ["--sealed", sealedOf(kms.own), "--out", join(kms.plugin.folder, `pages-${epoch + 1}`)];
  const args = [
    "custody",
    "renew",
    "--key",
    uri(),
    "--state-dir",
    join(kms.plugin.folder, "renewing"),
    ...place,
  ];
  const result = await runCommand([...args, ...options], kms.fault.env, shares.join("\n"));
  if (result.code === 0) shares = sharesIn(join(kms.plugin.folder, `pages-${++epoch}`));
  return result;
}

/** Locks a node and unlocks it with the present shares. */
async function relock(node: ReachablePlugin): Promise<void> {
  await runCommand(["lock", "--socket", socketOf(node)]);
  await unlock(node);
}

/** Ends every token host, as an outage or a crash does; others start in their places. */
async function replaceHosts(node: ReachablePlugin): Promise<void> {
  const { pid = 0 } = node.plugin;
  const before = childrenOf(pid);
  for (const host of before) process.kill(host, "SIGKILL");
  await waitFor(async () => (await hostsOf(node)) === 0);
}

it("after a renewal, a node that was not locked spends one PIN attempt, not one at each login", async () => {
  expect((await renew()).code).toBe(0);
  const before = logins();
  for (const node of nodes.slice(0, 2)) {
    await replaceHosts(node);
    await waitFor(() => node.plugin.log.includes("CKR_PIN_INCORRECT"));
    process.kill(node.plugin.pid ?? 0, "SIGHUP");
    // The other host.
    await waitFor(() => node.plugin.log.includes("not tried again"));
  }
  expect(logins() - before).toBe(2);
  for (const node of nodes) copyFileSync(sealedOf(kms.own), sealedOf(node));
  for (const node of nodes) await relock(node);
});

it("a node with the renewed sealed PIN spends no PIN attempt, and reports the renewal", async () => {
  expect((await renew()).code).toBe(0);
  for (const node of nodes) copyFileSync(sealedOf(kms.own), sealedOf(node));
  const before = logins();
  for (const node of nodes) {
    await replaceHosts(node);
    await waitFor(() => node.plugin.log.includes(`epoch ${epoch - 1} was renewed`));
    expect(node.plugin.log).toMatch(/was renewed: [^"]*; have the custodians run kms-pkcs11 unlock --share/);
  }
  expect(logins()).toBe(before);
  for (const node of nodes) await unlock(node);
});

it("a node tries no PIN while a file beside its sealed PIN shows an interrupted renewal", async () => {
  const [node] = nodes;
  if (node === undefined) throw new Error("no node");
  const next = { ...(JSON.parse(readFileSync(sealedOf(node), "utf8")) as object), epoch: epoch + 1 };
  writeFileSync(`${sealedOf(node)}.next`, JSON.stringify(next));
  const before = logins();
  await replaceHosts(node);
  await waitFor(() => node.plugin.log.includes("is being renewed to epoch"));
  expect(logins()).toBe(before);
  rmSync(`${sealedOf(node)}.next`);
  await unlock(node);
});

it("custody renew changes no PIN and spends no attempt while a node of --nodes is unlocked", async () => {
  const list = ["--nodes", nodes.map(({ address }) => `http://${address}`).join(",")];
  const before = logins();
  expect(await renew(...list)).toMatchObject({
    code: 1,
    stderr: matching(/the PIN was not changed: http:.* is not locked: run kms-pkcs11 lock on that node/),
  });
  expect(logins()).toBe(before);
  for (const node of nodes) await runCommand(["lock", "--socket", socketOf(node)]);
  expect(await renew(...list)).toMatchObject({ code: 0 });
  for (const node of nodes) copyFileSync(sealedOf(kms.own), sealedOf(node));
  for (const node of nodes) await unlock(node);
});

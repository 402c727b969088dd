// Kills `custody renew` by SIGKILL before its changes of a file, and in C_SetPIN before and after the token has
// changed the PIN. After each, the shares of both epochs finish the renewal, with at most one wrong PIN, and open a PIN that
// the token accepts.

import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, test } from "vitest";

import { createKek, kmsPkcs11, MAIN, type CommandResult } from "../support/plugin-process.js";
import { sharesIn } from "../support/share-pages.js";
import { makeFolder } from "../support/token.js";
import { useToken } from "../support/token-fixture.js";
import { waitFor } from "../support/wait.js";

const HOOK = fileURLToPath(new URL("kill-at-change.mjs", import.meta.url));
/** More changes than a renewal makes. */
const MOST_CHANGES = 200;
const SEED = Number(process.env["SOAK_SEED"] ?? String(Date.now() % 1_000_000));
/** A short run takes every fourth change, from one of the first four on. */
const STEP = Number(process.env["SOAK_MINUTES"] ?? "1") < 5 ? 4 : 1;
const FIRST = 1 + (SEED % STEP);

const fixture = useToken({ faults: [] });

const folder = makeFolder("renewal-soak");
const sealed = join(folder, "pin.sealed");
let round = 0;

const keyUri = (): string =>
  `pkcs11:token=${fixture.token.label};object=kms-kek?module-path=${fixture.fault.modulePath}`;
const pageFolders = (): string[] => readdirSync(folder).filter((name) => name.startsWith("pages-"));
/** All shares that custodians hold, in any order. */
const shares = (): string[] => pageFolders().flatMap((name) => sharesIn(join(folder, name)));

function renewArguments(): string[] {
  const out = join(folder, `pages-${++round}`);
  mkdirSync(out, { mode: 0o700 });
  return [
    "custody",
    "renew",
    "--key",
    keyUri(),
    "--sealed",
    sealed,
    "--out",
    out,
    "--state-dir",
    join(folder, "state"),
  ];
}

/** Runs a renewal in a process of its own. */
async function renew(
  env: Readonly<Record<string, string>>,
  whenRunning?: (kill: () => void) => Promise<void>,
): Promise<{ readonly signal: NodeJS.Signals | null } & CommandResult> {
  const input = shares().join("\n");
  const child = spawn(process.execPath, ["--import", HOOK, MAIN, ...renewArguments()], {
    env: { ...process.env, ...fixture.fault.env, ...env },
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.on("error", () => undefined).end(input);
  const ended = new Promise<NodeJS.Signals | null>((resolve) =>
    child.once("close", (_code, signal) => {
      resolve(signal);
    }),
  );
  await whenRunning?.(() => child.kill("SIGKILL"));
  const signal = await ended;
  return { signal, code: child.exitCode, stdout, stderr };
}

const refusedLogins = (): number =>
  fixture.fault.log().filter(({ name, rv }) => name === "C_Login" && rv === 0xa0).length;

/** Finishes a renewal, and tests that the token accepts what the shares open. */
async function finish(where: string): Promise<void> {
  fixture.fault.set("log C_Login");
  const before = refusedLogins();
  const { code, stderr } = await renew({});
  if (code !== 0) throw new Error(`${where}: exit code ${code}: ${stderr}`);
  // The custodians destroy the earlier pages.
  const { epoch } = JSON.parse(readFileSync(sealed, "utf8")) as { epoch: number };
  for (const name of pageFolders()) {
    const isInForce = readdirSync(join(folder, name)).some((page) => page.includes(`-${epoch}-`));
    if (!isInForce) rmSync(join(folder, name), { recursive: true });
  }
  expect(refusedLogins() - before, where).toBeLessThanOrEqual(1);
  const { stdout: pin } = kmsPkcs11(["custody", "combine", "--sealed", sealed], {}, shares().join("\n"));
  const list = ["keys", "list", "--key", keyUri(), "--pin-stdin", "--state-dir", join(folder, "other")];
  const listed = kmsPkcs11(list, fixture.fault.env, pin);
  expect({ where, ...listed }).toMatchObject({ code: 0 });
}

test("a renewal that is killed before a change of a file can be repeated", async () => {
  createKek(fixture.fault);
  const split = ["custody", "split", "--key", keyUri(), "--pin-stdin", "--threshold", "2", "--shares", "3"];
  mkdirSync(join(folder, "pages-0"), { mode: 0o700 });
  const place = ["--sealed", sealed, "--out", join(folder, "pages-0"), "--state-dir", join(folder, "state")];
  expect(kmsPkcs11([...split, ...place], fixture.fault.env, fixture.token.pin)).toMatchObject({ code: 0 });
  let at = FIRST;
  for (; at < MOST_CHANGES; at += STEP) {
    const { signal, code, stderr } = await renew({ KILL_AT_CHANGE: String(at) });
    if (signal === null) {
      expect({ code, stderr }).toMatchObject({ code: 0 });
      break;
    }
    await finish(`killed before change ${at}`);
  }
  process.stdout.write(`killed before every change from ${FIRST} to ${at - STEP}, in steps of ${STEP}\n`);
  expect(at).toBeGreaterThan(20);
});

test.each(["hang", "hang after"])(
  "a renewal that is killed in C_SetPIN (%s) can be repeated",
  async (fault) => {
    fixture.fault.set(`C_SetPIN ${fault}`);
    const before = fixture.fault.calls("C_SetPIN");
    const { signal } = await renew({}, async (kill) => {
      await waitFor(() => fixture.fault.calls("C_SetPIN") > before);
      if (fault === "hang after") await waitFor(() => readdirSync(folder).includes("pin.sealed.next"));
      kill();
    });
    expect(signal).toBe("SIGKILL");
    await finish(fault);
  },
);

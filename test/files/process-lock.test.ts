// The lock between processes: one holder at a time, and none after its holder has died.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterEach, beforeEach, expect, it } from "vitest";

import { takeProcessLock, type HeldLock } from "../../src/files/process-lock.js";
import { makeFolder } from "../support/token.js";

const BUILT = fileURLToPath(new URL("../../dist/files/process-lock.js", import.meta.url));
let folder: string;

beforeEach(() => {
  folder = makeFolder("lock");
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const take = (patienceMs = 20_000, place = folder): Promise<HeldLock> =>
  takeProcessLock({ folder: place, name: "a", doing: "busy", patienceMs });

/** Fails while another process holds the lock, since a folder cannot be created twice. */
async function work(): Promise<void> {
  const lock = await take();
  mkdirSync(join(folder, "held"));
  await new Promise((resolve) => setTimeout(resolve, 1));
  rmdirSync(join(folder, "held"));
  lock.release();
}

/** Starts a process that runs `code` with access to the lock of this folder. */
function another(code: string): ReturnType<typeof spawn> {
  const script = `
    import { mkdirSync, rmdirSync } from "node:fs";
    import { takeProcessLock } from ${JSON.stringify(BUILT)};
    const take = () => takeProcessLock({ folder: ${JSON.stringify(folder)}, name: "a", doing: "busy", patienceMs: 20_000 });
    ${code}`;
  return spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["pipe", "pipe", "inherit"],
  });
}

it("the process lock has one holder, over processes and within one, and leaves one socket", async () => {
  const others = Array.from({ length: 3 }, () =>
    another(`
      for (let i = 0; i < 20; i++) {
        const lock = await take();
        mkdirSync(${JSON.stringify(join(folder, "held"))});
        await new Promise((resolve) => setTimeout(resolve, 1));
        rmdirSync(${JSON.stringify(join(folder, "held"))});
        lock.release();
      }`),
  );
  const ended = others.map((child) => once(child, "exit"));
  const here = Array.from({ length: 3 }, async () => {
    for (let i = 0; i < 10; i++) await work();
  });
  await Promise.all(here);
  for (const [code] of await Promise.all(ended)) expect(code).toBe(0);
  expect(readdirSync(folder)).toEqual(["a.lock.90"]);
});

it("the process lock is held while its holder lives, and is free once the holder has died", async () => {
  const holder = another("await take(); console.log('held'); setInterval(() => {}, 1000);");
  if (holder.stdout === null) throw new Error("no output");
  await once(holder.stdout, "data");
  await expect(take(100)).rejects.toMatchObject({ code: "HSM_UNAVAILABLE", message: /busy/ });
  const dead = once(holder, "exit");
  holder.kill("SIGKILL");
  await dead;
  (await take()).release();
});

it("the process lock works in a folder of any length, and fails if no socket can be made", async () => {
  const long = join(folder, "x".repeat(200));
  mkdirSync(long);
  const lock = await take(1_000, long);
  await expect(take(50, long)).rejects.toMatchObject({ code: "HSM_UNAVAILABLE" });
  lock.release();
  (await take(1_000, long)).release();
  writeFileSync(join(folder, "file"), "");
  await expect(take(50, join(folder, "file"))).rejects.toMatchObject({ code: "ENOTDIR" });
});

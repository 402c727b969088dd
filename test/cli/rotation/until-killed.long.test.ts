// `rotation run --until STEP`, killed when that step begins, while a run with another state directory, as on another machine,
// takes the same rotation further. Both have the same goal, so one KEK is made, and every later run ends with it.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, it } from "vitest";
import { runCommand } from "../../support/command.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import { MAIN } from "../../support/plugin-process.js";
import { makeFolder, tokenUri } from "../../support/token.js";

const kms = usePlugin({ keys: { refreshInterval: "200ms" } });
const folder = makeFolder("until-killed");
/** The KEK that the plugin began with. */
let former: string;
let asking: NodeJS.Timeout;

const key = (): string[] => ["--key", tokenUri(kms.token, "kms-kek")];

async function listed(): Promise<{ keyId: string; state: string }[]> {
  const { stdout } = await runCommand(["keys", "list", ...key(), "-o", "json"], kms.token.env);
  return (JSON.parse(stdout) as { keys: { keyId: string; state: string }[] }).keys;
}

beforeAll(async () => {
  await kms.client.status();
  [former = ""] = (await listed()).map(({ keyId }) => keyId);
  // As an API server does.
  asking = setInterval(() => void kms.client.status().catch(() => undefined), 500);
});
afterAll(() => {
  clearInterval(asking);
});

/** Starts a run as on a machine of its own. */
function start(machine: string, until: string): ChildProcess {
  const own = ["--state-dir", join(folder, machine), "--until", until, "-o", "json"];
  const goal = ["--nodes", kms.own.url, "--replace", former, "--activate-in", "30s"];
  const args = ["rotation", "run", ...key(), ...goal, ...own];
  return spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, ...kms.token.env } });
}

/** Kills a run when it says that it begins its last step; a run that ends before has found the step done. */
async function killedAt(step: string, child: ChildProcess): Promise<void> {
  const ended = once(child, "close");
  if (child.stdout === null) throw new Error("no output");
  for await (const line of createInterface({ input: child.stdout })) {
    const seen = JSON.parse(line) as { step?: string; event: string };
    if (seen.step === step && seen.event === "begun") child.kill("SIGKILL");
  }
  await ended;
}

/** Expects that a run ends well, and returns the KEK in its report. */
async function completed(child: ChildProcess): Promise<{ keyId: string; state: string }> {
  if (child.stdout === null || child.stderr === null) throw new Error("no output");
  const [stdout, stderr, [code]] = (await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "close"),
  ])) as [string, string, [number | null]];
  expect(code, stderr).toBe(0);
  return (JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as { kek: { keyId: string; state: string } })
    .kek;
}

it("a run that was killed at the step of --until is completed by others, with one KEK", async () => {
  await killedAt("create", start("one", "create"));
  const { keyId } = await completed(start("one", "create"));
  expect((await listed()).map((one) => one.keyId).sort()).toEqual([former, keyId].sort());
  const other = completed(start("two", "confirm"));
  await killedAt("activate", start("one", "activate"));
  expect(await other).toMatchObject({ keyId, state: "active" });
  await killedAt("confirm", start("one", "confirm"));
  expect(await completed(start("one", "confirm"))).toMatchObject({ keyId, state: "active" });
  expect(await listed()).toMatchObject([
    { keyId, state: "active" },
    { keyId: former, state: "retired" },
  ]);
});

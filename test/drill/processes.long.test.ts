// The processes of a drill: the private etcd on a real snapshot, programs that fail or are not what they seem, and what is left
// when a drill is interrupted, killed, or runs beside another.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, expect, it } from "vitest";

import type { DrillReport } from "../../src/evidence/drill-report.js";
import { DrillStage, saveSecrets } from "../support/drill-stage.js";
import { pkcs11Tool } from "../support/softhsm.js";
import { SoftHsmClone } from "../support/softhsm-clone.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { MAIN, type CommandResult } from "../support/plugin-process.js";
import { newSeed } from "../support/stored-secrets.js";
import { waitFor } from "../support/wait.js";

const STAND_IN = fileURLToPath(new URL("../e2e/harness/stand-ins/etcdutl.mjs", import.meta.url));

const kms = usePlugin();
let stage: DrillStage;

beforeAll(async () => {
  stage = new DrillStage(kms.token);
  await saveSecrets([await newSeed(kms.plugin.socket)], stage.snapshot);
});
afterAll(() => {
  stage.remove();
});

/** Makes an etcdutl whose `snapshot restore` is this shell command, and returns its path. */
function etcdutl(name: string, restore: string): string {
  const path = join(stage.folder, name);
  const version = 'case "$1" in version) echo "etcdutl version: 3.4.0"; exit;; esac';
  writeFileSync(path, `#!/bin/sh\n${version}\n${restore}\n`);
  chmodSync(path, 0o755);
  return path;
}

const working = (): string => etcdutl("etcdutl", `exec '${process.execPath}' '${STAND_IN}' "$@"`);

/** Returns an etcdutl that never ends, and how to find out whether it runs. */
function hanging(name: string): { path: string; begun: () => boolean; runs: () => boolean } {
  const pidFile = join(stage.folder, `${name}.pid`);
  const path = etcdutl(name, `echo $$ > '${pidFile}'; exec sleep 600`);
  return {
    path,
    begun: () => existsSync(pidFile) && readFileSync(pidFile, "utf8").trim() !== "",
    runs: () => existsSync(`/proc/${readFileSync(pidFile, "utf8").trim()}`),
  };
}

function start(...args: string[]): ChildProcess {
  const env = { ...process.env, ...stage.env, KUBECONFIG: "/live", ETCDCTL_ENDPOINTS: "live:2379" };
  return spawn(process.execPath, [MAIN, ...stage.args(...args)], { env, stdio: "pipe" });
}

async function result(child: ChildProcess): Promise<CommandResult> {
  const text = { stdout: "", stderr: "" };
  child.stdout?.setEncoding("utf8").on("data", (chunk: string) => (text.stdout += chunk));
  child.stderr?.setEncoding("utf8").on("data", (chunk: string) => (text.stderr += chunk));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, ...text };
}

const run = (...args: string[]): Promise<CommandResult> => result(start(...args));
const steps = (): Record<string, string> =>
  Object.fromEntries((stage.report() as DrillReport).steps.map(({ step, outcome }) => [step, outcome]));

it("drill starts a private etcd on the restored snapshot, twice at the same time", async () => {
  const etcd = ["--etcd", "/usr/bin/etcd", "--etcdutl", working()];
  const both = await Promise.all([run(...etcd), run(...etcd)]);
  expect(both.map(({ code, stderr }) => [code, stderr])).toEqual([
    [0, expect.stringContaining("report: ")],
    [0, expect.stringContaining("report: ")],
  ]);
  expect(stage.reportFiles()).toHaveLength(4);
  expect(steps()).toMatchObject({ etcd: "passed", plugin: "passed", apiserver: "not rehearsed" });
  expect(readdirSync(stage.temporary)).toEqual([]);
});

it("a drill takes the PINs of several tokens from standard input, and leaves none behind", async () => {
  const SECOND_PIN = "swordfish-2";
  const { label, modulePath, pin, pinFile } = new SoftHsmClone(kms.token, "other");
  stage.restoreToken(join(kms.token.folder, "tokens"));
  pkcs11Tool(
    { label, modulePath, pin, pinFile, remove: () => undefined, env: stage.env },
    "--change-pin",
    "--new-pin",
    SECOND_PIN,
  );
  const uriOf = (name: string): string => `pkcs11:token=${name};object=kms-kek?module-path=${modulePath}`;
  stage.configure({ keys: { uri: uriOf("kms") }, failover: [{ uri: uriOf(label) }] });
  const drill = (lines: readonly string[]): Promise<CommandResult> => {
    const child = start("--pin-stdin");
    child.stdin?.end(lines.map((line) => `${line}\n`).join(""));
    return result(child);
  };
  try {
    const { code, stdout, stderr } = await drill([kms.token.pin, SECOND_PIN]);
    expect([code, stderr]).toEqual([0, expect.stringContaining("report: ")]);
    expect(steps()).toMatchObject({ token: "passed", keks: "passed", objects: "passed", plugin: "passed" });
    expect(stage.report()).toMatchObject({ tokens: [{ label: "kms" }, { label: "other" }] });
    expect(stdout + stderr + JSON.stringify(stage.report())).not.toContain(SECOND_PIN);
    expect(readdirSync(stage.temporary)).toEqual([]);
    const three = await drill([kms.token.pin, SECOND_PIN, SECOND_PIN]);
    expect(three.stderr).toContain("standard input holds 3 lines for 2 tokens");
    expect(three.code).not.toBe(0);
  } finally {
    stage.configure();
  }
});

it("an etcdutl that fails is reported with the end of its log, and the plugin is rehearsed", async () => {
  const failing = etcdutl("failing", "echo 'Error: snapshot file integrity check failed' >&2; exit 1");
  const { code, stderr } = await run("--etcd", "/usr/bin/etcd", "--etcdutl", failing);
  expect([code, stderr]).toEqual([3, expect.stringContaining("integrity check failed") as string]);
  expect(steps()).toMatchObject({ etcd: "failed", plugin: "passed", list: "not rehearsed" });
});

it("an etcd that cannot use the restored data is reported with the end of its log", async () => {
  const path = join(stage.folder, "etcd-of-another-version");
  const version = 'case "$1" in --version) exec /usr/bin/etcd --version;; esac';
  const refusal =
    "panic: cluster cannot be downgraded (current version: 3.4.0 is lower than determined cluster version: 3.6)";
  writeFileSync(path, `#!/bin/sh\n${version}\necho '${refusal}' >&2; exit 2\n`);
  chmodSync(path, 0o755);
  const { code, stderr } = await run("--etcd", path, "--etcdutl", working());
  expect([code, stderr]).toEqual([3, expect.stringContaining("cluster cannot be downgraded") as string]);
  expect(steps()).toMatchObject({
    etcd: "failed",
    objects: "passed",
    plugin: "passed",
    list: "not rehearsed",
  });
  expect(readdirSync(stage.temporary)).toEqual([]);
});

it("programs of a drill get no variable that leads to a cluster", async () => {
  const file = join(stage.folder, "environment");
  const showing = etcdutl("showing", `env > '${file}'; exit 1`);
  await run("--etcd", "/usr/bin/etcd", "--etcdutl", showing);
  const names = readFileSync(file, "utf8").match(/^\w+(?==)/gm);
  expect(names?.filter((name) => !["_", "PWD", "SHLVL", "OLDPWD"].includes(name)).sort()).toEqual([
    "HOME",
    "LC_ALL",
    "PATH",
    "TMPDIR",
  ]);
});

it("a drill opens nothing if the program that an option names is another one", async () => {
  const before = stage.reportFiles();
  expect(await run("--etcd", "/bin/true")).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("--etcd: /bin/true does not print the expected version") as string,
  });
  expect(await run("--kube-apiserver", "/none")).toMatchObject({ code: 2 });
  expect(stage.reportFiles()).toEqual(before);
});

it.each(["SIGINT", "SIGTERM"] as const)("%s ends a drill, its processes and its folder", async (signal) => {
  const { path, begun, runs } = hanging(`hangs-until-${signal}`);
  const child = start("--etcd", "/usr/bin/etcd", "--etcdutl", path);
  const ended = result(child);
  await waitFor(begun, { what: "etcdutl", timeoutMs: 50_000 });
  child.kill(signal);
  expect(await ended).toMatchObject({ code: 130, stderr: expect.stringContaining("interrupted") as string });
  await waitFor(() => !runs(), { what: "the end of etcdutl" });
  expect(readdirSync(stage.temporary)).toEqual([]);
  expect(stage.report()).toMatchObject({ passed: false });
});

it("the processes of a killed drill end with it, and the next drill removes its folder", async () => {
  const { path, begun, runs } = hanging("hangs-until-killed");
  const child = start("--etcd", "/usr/bin/etcd", "--etcdutl", path);
  await waitFor(begun, { what: "etcdutl", timeoutMs: 50_000 });
  child.kill("SIGKILL");
  await waitFor(() => !runs(), { what: "the end of etcdutl", timeoutMs: 20_000 });
  const [left = ""] = readdirSync(stage.temporary);
  expect(left).toMatch(/^kms-pkcs11-drill-/);
  expect(await run()).toMatchObject({
    code: 0,
    stderr: expect.stringContaining(`removed ${join(stage.temporary, left)}`) as string,
  });
  expect(readdirSync(stage.temporary)).toEqual([]);
});

it("a drill leaves the folder of one that still runs", async () => {
  const { path, begun } = hanging("hangs-meanwhile");
  const child = start("--etcd", "/usr/bin/etcd", "--etcdutl", path);
  const ended = result(child);
  await waitFor(begun, { what: "etcdutl", timeoutMs: 50_000 });
  const running = readdirSync(stage.temporary);
  const { stderr } = await run();
  expect(stderr).not.toContain("killed");
  expect(readdirSync(stage.temporary)).toEqual(running);
  child.kill("SIGTERM");
  await ended;
});

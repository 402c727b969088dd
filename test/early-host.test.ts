// The token host that the plugin spawns before it knows its configuration: it serves only if the configuration wants no other
// environment for it.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { afterAll, afterEach, describe, expect, it, vi } from "vitest";

import { CONFIGURATION_VARIABLE, DEFAULT_CONFIGURATION } from "../src/config/location.js";
import {
  discardEarlyHost,
  environmentOfHosts,
  spawnEarlyHost,
  spawnHostProgram,
  takeEarlyHost,
  TOKEN_HOST_ENTRY,
  type HostProgram,
} from "../src/early-host.js";
import { childrenOf, MAIN } from "./support/plugin-process.js";
import { waitFor } from "./support/wait.js";

/** What a configuration without special settings asks for. */
const wanted = (): HostProgram => ({
  entry: TOKEN_HOST_ENTRY,
  args: [],
  env: environmentOfHosts(process.env),
  lanes: 16,
});

const BUILT_ENTRY = join(dirname(MAIN), "token-host/main.js");

const hosts = (): number[] => childrenOf(process.pid);

afterEach(() => {
  vi.unstubAllEnvs();
  discardEarlyHost();
});

it("the early token host is taken once, and later ones are spawned", () => {
  spawnEarlyHost([]);
  const child = takeEarlyHost(wanted());
  expect(hosts()).toContain(child?.pid);
  expect(takeEarlyHost(wanted())).toBeUndefined();
  child?.kill("SIGKILL");
});

it("an early token host serves a configuration with fewer sessions", () => {
  spawnEarlyHost([]);
  const child = takeEarlyHost({ ...wanted(), lanes: 1 });
  expect(child?.stdio).toHaveLength(3 + 16);
  child?.kill("SIGKILL");
});

it.each([
  ["a variable, which may be a PIN", { env: {} }],
  ["more sessions", { lanes: 17 }],
  ["another user", { args: ["--user={}"] }],
  ["another program", { entry: "/nowhere/main.js" }],
])("an early token host ends if the configuration differs by %s", async (_what, change) => {
  const before = hosts();
  spawnEarlyHost([]);
  const spawned = hosts().filter((pid) => !before.includes(pid));
  expect(spawned).toHaveLength(1);
  expect(takeEarlyHost({ ...wanted(), ...change })).toBeUndefined();
  await waitFor(() => !hosts().some((pid) => spawned.includes(pid)));
});

describe("a variable that may hold a PIN", () => {
  const folder = mkdtempSync(join(tmpdir(), "early-host-"));
  const file = join(folder, "config.yaml");
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  const isSpawned = (...words: string[]): boolean => {
    const before = hosts().length;
    spawnEarlyHost(words, "/nowhere");
    return hosts().length > before;
  };

  it.each([
    ["the setting pin", "pin: { env: HSM_CODE }"],
    ["a URI", "keys: { uri: 'pkcs11:token=t?pin-source=env:HSM_CODE' }"],
    ["a URI with escapes", "keys: { uri: 'pkcs11:token=t?pin-source=env%3aHSM_%43ODE' }"],
    ["a text with escapes of YAML", 'pin: { env: "HSM_C\\x4fDE" }'],
  ])("no token host is spawned early if the configuration names a variable in %s", (_where, text) => {
    vi.stubEnv("HSM_CODE", "1234");
    writeFileSync(file, text);
    expect(isSpawned("--config", file)).toBe(false);
    expect(isSpawned(`--config=${file}`)).toBe(false);
    expect(isSpawned(`-c${file}`)).toBe(false);
    vi.stubEnv("KMS_PKCS11_CONFIG", file);
    expect(isSpawned()).toBe(false);
  });

  it("no token host is spawned early if the command line names a variable", () => {
    vi.stubEnv("HSM_CODE", "1234");
    expect(isSpawned("--key", "pkcs11:token=t?pin-source=env:HSM_CODE")).toBe(false);
  });

  it("no token host is spawned early for a configuration that is not a file", () => {
    expect(isSpawned("--config", "/dev/zero")).toBe(false);
  });

  it("a token host is spawned early if nothing names a variable", () => {
    vi.stubEnv("HSM_CODE", "1234");
    writeFileSync(file, "keys: { uri: 'pkcs11:token=t?pin-source=file:/etc/pin' }");
    expect(isSpawned("--config", file, "--mode", "0600")).toBe(true);
  });

  it("the configuration is looked for where the command looks for it", () => {
    const source = readFileSync(new URL("../src/early-host.ts", import.meta.url), "utf8");
    expect(source).toContain(`= "${CONFIGURATION_VARIABLE}";`);
    expect(source).toContain(`= "${DEFAULT_CONFIGURATION}";`);
  });
});

it("token hosts get neither systemd's notification socket nor the collector's password", () => {
  const own = {
    NOTIFY_SOCKET: "/run/n",
    WATCHDOG_USEC: "1",
    WATCHDOG_PID: "1",
    OTEL_EXPORTER_OTLP_HEADERS: "a=b",
  };
  expect(environmentOfHosts({ ...own, PATH: "/bin", KMS_PIN: "1234" })).toEqual({
    PATH: "/bin",
    KMS_PIN: "1234",
  });
});

it("a token host ends when its standard input does, before it has been given a library", async () => {
  const child = spawnHostProgram({ ...wanted(), entry: BUILT_ENTRY, lanes: 1 });
  const ended = new Promise((resolve) =>
    child.once("exit", (_code, signal) => {
      resolve(signal);
    }),
  );
  child.stdin?.end();
  expect(await ended).toBe("SIGKILL");
});

/** Notes, in their order, which modules are loaded and that a process is spawned. */
const NOTE_ORDER = `
import { ChildProcess } from "node:child_process";
import { registerHooks } from "node:module";
const steps = [];
registerHooks({ load(url, context, next) { steps.push(url.replace(/.*[/]dist[/]/, "")); return next(url, context); } });
const { spawn } = ChildProcess.prototype;
ChildProcess.prototype.spawn = function (...all) { steps.push("spawned"); return spawn.apply(this, all); };
process.on("exit", () => process.stderr.write("STEPS " + JSON.stringify(steps) + "\\n"));`;

function stepsOf(...args: string[]): string[] {
  const hook = `data:text/javascript,${encodeURIComponent(NOTE_ORDER)}`;
  const { stderr } = spawnSync(process.execPath, ["--import", hook, MAIN, ...args], { encoding: "utf8" });
  return JSON.parse(/STEPS (.*)/.exec(stderr)?.[1] ?? "[]") as string[];
}

it("`serve` spawns its first token host before it loads the command line", () => {
  const steps = stepsOf("serve", "--config", "/nowhere");
  expect(steps.filter((step) => step === "spawned")).toHaveLength(1);
  expect(steps).toContain("cli/program.js");
  expect(steps.indexOf("spawned")).toBeLessThan(steps.indexOf("cli/program.js"));
});

it.each([
  ["serve", "--help"],
  ["config", "validate", "--config", "/nowhere"],
])("`%s %s` spawns no token host", (...args) => {
  expect(stepsOf(...args)).not.toContain("spawned");
});

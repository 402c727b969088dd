// A plugin process whose configuration is reloaded by SIGHUP: what takes effect, what is reported, and what systemd
// receives.

import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterAll, beforeAll, expect, it } from "vitest";

import { KmsClient } from "../../src/kms-client/kms-client.js";
import { FaultModule } from "../support/fault-module.js";
import { PluginProcess, type PluginSettings } from "../support/plugin-process.js";
import { createSoftHsmWithKek, type SoftHsm } from "../support/softhsm.js";
import { makeFolder, tokenUri } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const WAIT = { timeoutMs: 30_000, intervalMs: 20 };
const RELOADED = "configuration reloaded";
const REFUSED = "configuration not reloaded";

let softHsm: SoftHsm;
let fault: FaultModule;
let plugin: PluginProcess;
let client: KmsClient;
const folder = makeFolder("reload");
const auditFile = join(folder, "audit.log");

const settings = (more: PluginSettings = {}): PluginSettings => ({
  hsm: { requestTimeout: "500ms", startTimeout: "2s" },
  audit: { file: auditFile },
  ...more,
});

interface Line {
  readonly level: string;
  readonly msg: string;
  readonly setting?: string;
  readonly reason?: string;
}

/** Sends SIGHUP and returns what is logged until the reload has ended. */
const hangUp = async (send = (): void => void process.kill(plugin.pid ?? 0, "SIGHUP")): Promise<Line[]> => {
  const before = plugin.log.length;
  const lines = (): Line[] =>
    plugin.log
      .slice(before)
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Line);
  send();
  await waitFor(() => lines().some(({ msg }) => msg === RELOADED || msg.startsWith(REFUSED)), WAIT);
  return lines();
};
const settingsIn = (lines: readonly Line[], message: string): (string | undefined)[] =>
  lines.filter(({ msg }) => msg === message).map(({ setting }) => setting);
const inForce = (lines: readonly Line[]) => settingsIn(lines, "a changed setting is in force");
const afterRestart = (lines: readonly Line[]) =>
  settingsIn(lines, "a changed setting takes effect after a restart");

beforeAll(() => {
  softHsm = createSoftHsmWithKek();
  fault = new FaultModule(softHsm);
  plugin = new PluginProcess(fault, settings());
  const notify = join(folder, "systemd-notify");
  writeFileSync(notify, `#!/bin/sh\necho "$*" >>${folder}/notified\n`);
  chmodSync(notify, 0o755);
  plugin.env = { PATH: `${folder}:${process.env["PATH"] ?? ""}`, NOTIFY_SOCKET: "/run/systemd/notify" };
  plugin.launch();
  client = new KmsClient(plugin.socket);
});

afterAll(async () => {
  client.close();
  await plugin.stop();
  plugin.remove();
  fault.remove();
  softHsm.remove();
});

it("a SIGHUP during the start is answered by a reload once the plugin serves", async () => {
  await waitFor(() => plugin.log.includes("kms-pkcs11 starts"), WAIT);
  plugin.configure(settings({ log: { level: "debug" } }));
  expect(inForce(await hangUp())).toEqual(["log.level"]);
  await waitFor(async () => (await client.status()).healthz === "ok", WAIT);
});

it("notifies systemd that it is ready, and when each reload begins and ends", async () => {
  const notified = (): string[] => readFileSync(join(folder, "notified"), "utf8").trim().split("\n");
  await waitFor(() => notified().length >= 3, WAIT);
  const before = process.hrtime.bigint() / 1_000n;
  await hangUp();
  await waitFor(() => notified().length >= 5, WAIT);
  const reload = /^RELOADING=1 MONOTONIC_USEC=(\d+)$/;
  expect(notified()).toEqual([
    "READY=1",
    expect.stringMatching(reload),
    "READY=1",
    expect.stringMatching(reload),
    "READY=1",
  ]);
  expect(BigInt(reload.exec(notified()[3] ?? "")?.[1] ?? 0) >= before).toBe(true);
});

it("applies what it can, names what needs a restart, and names that again the next time", async () => {
  const elsewhere = join(folder, "other.log");
  const changed = settings({
    audit: { file: elsewhere, required: true },
    cache: { ttl: "30m", entries: 5 },
    hsm: { requestTimeout: "500ms", startTimeout: "2s", queue: 10 },
    mode: "local-kek",
  });
  plugin.configure(changed);
  const lines = await hangUp();
  expect(new Set(inForce(lines))).toEqual(
    new Set(["log.level", "audit.file", "audit.required", "cache.ttl", "cache.entries"]),
  );
  expect(afterRestart(lines)).toEqual(["mode", "hsm.queue"]);
  await client.encrypt(Buffer.alloc(32), "reload");
  await waitFor(() => existsSync(elsewhere) && readFileSync(elsewhere, "utf8").includes("ncrypt"), WAIT);
  expect(afterRestart(await hangUp())).toEqual(["mode", "hsm.queue"]);
});

it("an invalid file, or a path that others control, changes nothing, and the log says why", async () => {
  writeFileSync(plugin.configFile, "kind: 1\n");
  const [invalid] = await hangUp();
  expect(invalid).toMatchObject({
    level: "error",
    reason: expect.stringContaining("config.yaml:1:") as string,
  });
  const open = makeFolder("open");
  chmodSync(open, 0o777);
  plugin.configure(
    settings({ log: { level: "debug" }, audit: { file: auditFile, keyFile: join(open, "key") } }),
  );
  const [untrusted] = await hangUp();
  expect(untrusted?.reason).toContain("can be written by others");
  plugin.configure(settings());
  expect(inForce(await hangUp())).not.toContain("log.level");
  expect((await client.status()).healthz).toBe("ok");
});

it("many SIGHUPs at once leave the last configuration in force", async () => {
  for (const level of ["debug", "info", "debug"]) {
    plugin.configure(settings({ log: { level } }));
    for (let sent = 0; sent < 5; sent++) process.kill(plugin.pid ?? 0, "SIGHUP");
  }
  await waitFor(async () => inForce(await hangUp()).length === 0, WAIT);
  plugin.configure(settings());
  expect(inForce(await hangUp())).toEqual(["log.level"]);
});

it("reloads while the HSM is away", async () => {
  fault.set("device-error");
  await expect(client.encrypt(Buffer.alloc(32), "away")).rejects.toThrow();
  plugin.configure(settings({ cache: { outageTtl: "3h" } }));
  expect(inForce(await hangUp())).toEqual(["cache.outageTtl"]);
  fault.clear();
  await waitFor(async () => (await client.status()).healthz === "ok", WAIT);
});

it("tries a refused PIN again only if the new source holds another PIN", async () => {
  await plugin.stop();
  const pinFile = (name: string, pin: string): string => {
    writeFileSync(join(folder, name), pin, { mode: 0o600 });
    return join(folder, name);
  };
  const withPin = (file: string): PluginSettings =>
    settings({ keys: { uri: tokenUri(fault, "kms-kek").replace(fault.pinFile, file) } });
  plugin.configure(withPin(pinFile("first", "wrong")));
  plugin.launch();
  const status = (): Promise<string> => client.status().then(({ healthz }) => healthz, String);
  await waitFor(async () => (await status()).includes("CKR_PIN_INCORRECT"), WAIT);
  const attempts = fault.calls("C_Login");

  plugin.configure(withPin(join(folder, "missing")));
  const missing = await hangUp();
  expect(settingsIn(missing, "the previous PIN source stays in force")).toEqual(["pin"]);

  plugin.configure(withPin(pinFile("second", "wrong")));
  expect(inForce(await hangUp())).toEqual(["pin"]);
  await waitFor(async () => (await status()).includes(join(folder, "second")), WAIT);
  expect(fault.calls("C_Login")).toBe(attempts);

  plugin.configure(withPin(pinFile("third", softHsm.pin)));
  expect(inForce(await hangUp())).toEqual(["pin"]);
  await waitFor(async () => (await status()) === "ok", WAIT);
});

// A plugin process whose configuration is reloaded by SIGHUP: what takes effect, what is reported, and what systemd
// receives.

import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, it } from "vitest";

import { StreamReceiver } from "../support/syslog-receiver.js";
import { usePlugin } from "../support/plugin-fixture.js";
import type { PluginSettings } from "../support/plugin-process.js";
import { makeFolder, tokenUri } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const WAIT = { timeoutMs: 30_000, intervalMs: 20 };
const RELOADED = "configuration reloaded";
const REFUSED = "configuration not reloaded";

const folder = makeFolder("reload");
const auditFile = join(folder, "audit.log");

const settings = (more: PluginSettings = {}): PluginSettings => ({
  hsm: { requestTimeout: "500ms", startTimeout: "2s" },
  audit: { file: auditFile },
  ...more,
});

const kms = usePlugin(settings(), {
  token: { kek: true, faults: [] },
  start: false,
  prepare({ plugin }) {
    const notify = join(folder, "systemd-notify");
    writeFileSync(notify, `#!/bin/sh\necho "$*" >>${folder}/notified\n`);
    chmodSync(notify, 0o755);
    plugin.env = { PATH: `${folder}:${process.env["PATH"] ?? ""}`, NOTIFY_SOCKET: "/run/systemd/notify" };
    plugin.launch();
  },
});

interface Line {
  readonly level: string;
  readonly msg: string;
  readonly setting?: string;
  readonly reason?: string;
}

/** Sends SIGHUP and returns what is logged until the reload has ended. */
const hangUp = async (
  send = (): void => void process.kill(kms.plugin.pid ?? 0, "SIGHUP"),
): Promise<Line[]> => {
  const before = kms.plugin.log.length;
  const lines = (): Line[] =>
    kms.plugin.log
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
const refusal = (lines: readonly Line[]) => lines.find(({ msg }) => msg.startsWith(REFUSED));
const afterRestart = (lines: readonly Line[]) =>
  settingsIn(lines, "a changed setting takes effect after a restart");

it("a SIGHUP during the start is answered by a reload once the plugin serves", async () => {
  await waitFor(() => kms.plugin.log.includes("kms-pkcs11 starts"), WAIT);
  kms.own.configure(settings({ log: { level: "debug" } }));
  expect(inForce(await hangUp())).toEqual(["log.level"]);
  await waitFor(async () => (await kms.client.status()).healthz === "ok", WAIT);
});

it("the plugin notifies systemd that it is ready, and when each reload begins and ends", async () => {
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

it("a reload applies what it can, and names each time what needs a restart", async () => {
  const elsewhere = join(folder, "other.log");
  const changed = settings({
    audit: { file: elsewhere, required: true },
    cache: { ttl: "30m", entries: 5 },
    hsm: { requestTimeout: "500ms", startTimeout: "2s", queue: 10 },
    mode: "local-kek",
  });
  kms.own.configure(changed);
  const lines = await hangUp();
  expect(new Set(inForce(lines))).toEqual(
    new Set(["log.level", "audit.file", "audit.required", "cache.ttl", "cache.entries"]),
  );
  expect(afterRestart(lines)).toEqual(["mode", "hsm.queue"]);
  await kms.client.encrypt(Buffer.alloc(32), "reload");
  await waitFor(() => existsSync(elsewhere) && readFileSync(elsewhere, "utf8").includes("ncrypt"), WAIT);
  expect(afterRestart(await hangUp())).toEqual(["mode", "hsm.queue"]);
});

it("an invalid file, or a path that others control, changes nothing, and the log says why", async () => {
  writeFileSync(kms.plugin.configFile, "kind: 1\n");
  const invalid = refusal(await hangUp());
  expect(invalid).toMatchObject({
    level: "error",
    reason: expect.stringContaining("config.yaml:1:") as string,
  });
  const open = makeFolder("open");
  chmodSync(open, 0o777);
  kms.own.configure(
    settings({ log: { level: "debug" }, audit: { file: auditFile, keyFile: join(open, "key") } }),
  );
  const untrusted = refusal(await hangUp());
  expect(untrusted?.reason).toContain("can be written by others");
  kms.own.configure(settings());
  expect(inForce(await hangUp())).not.toContain("log.level");
  expect((await kms.client.status()).healthz).toBe("ok");
});

it("many SIGHUPs at once leave the last configuration in force", async () => {
  const before = kms.plugin.log.length;
  const logged = (): string => kms.plugin.log.slice(before);
  for (const level of ["debug", "info", "debug"]) {
    kms.own.configure(settings({ log: { level } }));
    for (let sent = 0; sent < 5; sent++) process.kill(kms.plugin.pid ?? 0, "SIGHUP");
  }
  // Changed last and only once: when it is in force, every reload that may follow finds nothing to change.
  kms.own.configure(settings({ log: { level: "debug" }, cache: { entries: 6 } }));
  process.kill(kms.plugin.pid ?? 0, "SIGHUP");
  await waitFor(() => /"setting":"cache.entries"[^]*configuration reloaded/.test(logged()), WAIT);
  const settled = kms.plugin.log.length;
  kms.own.configure(settings());
  process.kill(kms.plugin.pid ?? 0, "SIGHUP");
  const setting = '"setting":"(log.level|cache.entries)"[^]*';
  const restored = new RegExp(`${setting}${setting}configuration reloaded`);
  const found = await waitFor(() => restored.exec(kms.plugin.log.slice(settled)), WAIT);
  expect(new Set(found.slice(1))).toEqual(new Set(["log.level", "cache.entries"]));
});

it("a reload works while the HSM is away", async () => {
  kms.fault.set("device-error");
  await expect(kms.client.encrypt(Buffer.alloc(32), "away")).rejects.toThrow();
  kms.own.configure(settings({ cache: { outageTtl: "3h" } }));
  expect(inForce(await hangUp())).toEqual(["cache.outageTtl"]);
  kms.fault.clear();
  await waitFor(async () => (await kms.client.status()).healthz === "ok", WAIT);
});

it("a reload starts and stops an audit sink, and a stalled one delays no request", async () => {
  const socket = join(folder, "syslog");
  const stalled = await StreamReceiver.listen(socket, undefined, true);
  kms.own.configure(settings({ audit: { file: auditFile, syslog: { address: socket } } }));
  expect(inForce(await hangUp())).toContain("audit.syslog.address");
  await waitFor(() => stalled.connections > 0, WAIT);
  for (let at = 0; at < 20; at++) await kms.client.decrypt(unknown(at), `s${at}`).catch(() => undefined);
  await stalled.close();
  const receiver = await StreamReceiver.listen(socket);
  await waitFor(() => receiver.messages.some((text) => text.includes('"keyId":"unknown-19"')), WAIT);
  const keyIds = receiver.messages.flatMap((text) => /"keyId":"(unknown-\d+)"/.exec(text)?.[1] ?? []);
  expect(new Set(keyIds).size).toBe(20);
  kms.own.configure(settings());
  expect(inForce(await hangUp())).toContain("audit.syslog.address");
  await receiver.close();
});

const unknown = (at: number) => ({
  keyId: `unknown-${at}`,
  ciphertext: Buffer.alloc(80),
  annotations: {},
});

it("a reload tries a refused PIN again only if the new source holds another PIN", async () => {
  await kms.plugin.stop();
  const pinFile = (name: string, pin: string): string => {
    writeFileSync(join(folder, name), pin, { mode: 0o600 });
    return join(folder, name);
  };
  const withPin = (file: string): PluginSettings =>
    settings({ keys: { uri: tokenUri(kms.fault, "kms-kek").replace(kms.fault.pinFile, file) } });
  kms.own.configure(withPin(pinFile("first", "wrong")));
  kms.plugin.launch();
  const status = (): Promise<string> => kms.client.status().then(({ healthz }) => healthz, String);
  await waitFor(async () => (await status()).includes("CKR_PIN_INCORRECT"), WAIT);
  const attempts = kms.fault.calls("C_Login");

  kms.own.configure(withPin(join(folder, "missing")));
  const missing = await hangUp();
  expect(settingsIn(missing, "the previous PIN source stays in force")).toEqual(["pin"]);

  kms.own.configure(withPin(pinFile("second", "wrong")));
  expect(inForce(await hangUp())).toEqual(["pin"]);
  await waitFor(async () => (await status()).includes(join(folder, "second")), WAIT);
  expect(kms.fault.calls("C_Login")).toBe(attempts);

  kms.own.configure(withPin(pinFile("third", kms.token.pin)));
  expect(inForce(await hangUp())).toEqual(["pin"]);
  await waitFor(async () => (await status()) === "ok", WAIT);
});

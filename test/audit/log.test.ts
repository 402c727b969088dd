// The audit log of a running plugin: what it records of requests and operators, and that a full disk delays nothing, is
// reported, and loses no event that fits into the buffer.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";

import { recordOperatorEvent } from "../../src/admin/operator-audit.js";
import { loadSettings } from "../../src/config/load.js";
import { AuditLog } from "../../src/audit/log.js";
import { verifyAudit } from "../../src/audit/verify.js";
import { silentOperator } from "../support/operator.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { runCommand } from "../support/command.js";
import { makeFolder } from "../support/token.js";
import { waitFor } from "../support/wait.js";

type Line = Readonly<Record<string, unknown>>;
const linesOf = (file: string): Line[] =>
  readFileSync(file, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);

describe("the audit log of a plugin", () => {
  const kms = usePlugin(({ plugin }) => ({ audit: { file: join(plugin.folder, "audit.log") } }));
  let file: string;

  beforeAll(() => {
    file = join(kms.plugin.folder, "audit.log");
  });

  const verify = async () => {
    const { code, stdout } = await runCommand([
      "audit",
      "verify",
      "--config",
      kms.plugin.configFile,
      "-o",
      "json",
    ]);
    return { code, report: JSON.parse(stdout) as { lines: number; problems: object[] } };
  };

  it("the plugin's audit log records the client, the key_id and the outcome of every request", async () => {
    const sealed = await kms.client.encrypt(Buffer.alloc(32, 0x5a), "uid-1");
    await kms.client.decrypt(sealed, "uid-2");
    await expect(kms.client.decrypt({ ...sealed, keyId: "00.c0" }, "uid-3")).rejects.toThrow(/NOT_FOUND/);
    const asked = await waitFor(() => {
      const found = linesOf(file).filter(({ uid }) => String(uid).startsWith("uid-"));
      return found.length === 3 && found;
    });
    const { keyId } = sealed;
    const common = { event: "request", userAgent: expect.stringMatching(/^grpc-node/) as string };
    const peer = expect.stringMatching(/^connection \d+$/) as string;
    expect(asked).toMatchObject([
      { ...common, operation: "Encrypt", uid: "uid-1", keyId, outcome: "OK", peer },
      { ...common, operation: "Decrypt", uid: "uid-2", keyId, outcome: "OK", peer },
      { ...common, operation: "Decrypt", uid: "uid-3", keyId: "00.c0", outcome: "NOT_FOUND", peer },
    ]);
    expect(linesOf(file)[0]).toMatchObject({ event: "started", socket: kms.plugin.socket, mode: "0600" });
    const statuses = linesOf(file).filter(
      ({ operation, healthz }) => operation === "Status" && healthz === "ok",
    );
    expect(statuses).toHaveLength(1);
    for (const form of ["hex", "base64"] as const) {
      expect(readFileSync(file, "utf8")).not.toContain(Buffer.alloc(32, 0x5a).toString(form));
    }
  });

  it("commands record their events in the same chain while the plugin writes", async () => {
    const settings = loadSettings({ configPath: kms.plugin.configFile, flags: {}, env: {}, serves: false });
    const requests = Promise.all(
      Array.from({ length: 20 }, (_, at) => kms.client.encrypt(Buffer.alloc(32), `c${at}`)),
    );
    const asked = {
      operation: "keys destroy",
      keyId: "k",
      reason: "drill",
      outcome: "ok",
      details: { objects: 0 },
    };
    await recordOperatorEvent(settings, silentOperator(), asked);
    await requests;
    const event = linesOf(file).find(({ event }) => event === "operator");
    expect(event).toMatchObject({ ...asked, operator: { uid: process.getuid?.(), pid: process.pid } });
    await waitFor(() => linesOf(file).some(({ uid }) => uid === "c19"));
    expect(await verify()).toMatchObject({ code: 0, report: { problems: [] } });
  });

  it("the audit log survives a full disk: requests continue, and no line is lost", async () => {
    const sealed = await kms.client.encrypt(Buffer.alloc(32), "before");
    await waitFor(() => linesOf(file).some(({ uid }) => uid === "before"));
    const limit = (bytes: number | string): void => {
      execFileSync("prlimit", ["--pid", String(kms.plugin.pid), `--fsize=${String(bytes)}:unlimited`]);
    };
    // A limit on the file size that the plugin's log does not reach, but the audit log soon does, in the middle of a
    // line.
    limit(100_001);
    for (let at = 0; at < 500; at++) await kms.client.decrypt(sealed, `full-${at}`);
    await waitFor(async () => (await kms.own.metric("audit_up")) === 0);
    expect(await kms.own.metric("audit_buffered")).toBeGreaterThan(0);
    expect((await kms.client.status()).healthz).toBe("ok");
    expect(kms.plugin.log).toMatch(/EFBIG.*the audit log cannot be written; requests continue/);
    expect(await verify()).toMatchObject({ code: 0 });
    limit("unlimited");
    await waitFor(() => linesOf(file).some(({ uid }) => uid === "full-499"), { timeoutMs: 20_000 });
    expect(await kms.own.metric("audit_up")).toBe(1);
    expect(await kms.own.metric("audit_lost_total")).toBe(0);
    const uids = linesOf(file)
      .map(({ uid }) => String(uid))
      .filter((uid) => uid.startsWith("full-"));
    expect(uids).toEqual(Array.from({ length: 500 }, (_, at) => `full-${at}`));
    expect(await verify()).toMatchObject({ code: 0, report: { problems: [] } });
  });

  it("the plugin's audit log is complete after a crash and a stop, and a removed line is found", async () => {
    await kms.plugin.stop("SIGKILL");
    await kms.plugin.start();
    await kms.plugin.stop();
    const lines = linesOf(file);
    expect(lines.at(-1)).toMatchObject({ event: "stopped" });
    expect(await verify()).toMatchObject({ code: 0, report: { lines: lines.length } });
    execFileSync("sed", ["-i", "4d", file]);
    const { code, stdout } = await runCommand(["audit", "verify", "--config", kms.plugin.configFile]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^problem +\S+audit\.log:4 1 line is missing before it \(number 5\)$/m);
    const key = join(kms.plugin.stateDir, "audit.key");
    expect((await runCommand(["audit", "verify", "--file", file, "--key-file", key])).code).toBe(1);
    expect((await runCommand(["audit", "verify", "--file", file])).code).toBe(2);
    expect((await runCommand(["audit", "verify", "--file", "/nowhere/a", "--key-file", key])).code).toBe(2);
  });
});

describe("a log that cannot be written", () => {
  let folder: string;
  const messages: string[] = [];
  const log = {
    debug: () => undefined,
    info: (_fields: object, message: string) => messages.push(message),
    warn: () => undefined,
    error: (_fields: object, message: string) => messages.push(message),
  };
  const RETRY = { flushMs: 1, firstRetryMs: 5, lastRetryMs: 5 };

  beforeEach(() => {
    folder = makeFolder("audit");
    messages.length = 0;
  });

  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  const place = () => ({ file: join(folder, "a.log"), keyFile: join(folder, "k"), maxBytes: 1e9, keep: 1 });
  const event = { event: "started", version: "1", socket: "s", mode: "0600", pid: 1 } as const;

  it("an unwritable audit log buffers what fits, and records the number of lost events", async () => {
    mkdirSync(place().file);
    const audit = new AuditLog(place(), log, RETRY);
    audit.record(event);
    await waitFor(() => !audit.up);
    for (let at = 0; at < 10_004; at++) audit.record(event);
    expect([audit.buffered, audit.lost]).toEqual([10_000, 5]);
    rmSync(place().file, { recursive: true });
    await waitFor(() => audit.up && audit.buffered === 0, { timeoutMs: 20_000 });
    audit.record(event);
    await audit.stop();
    const lines = linesOf(place().file);
    expect(lines).toHaveLength(10_002);
    expect(lines[10_000]).toMatchObject({ event: "gap", lost: 5, reason: "EISDIR" });
    expect((await verifyAudit(place())).problems).toEqual([]);
    expect(messages).toEqual([
      "the audit log cannot be written; requests continue",
      "the audit log can be written again",
    ]);
  });

  it("an unwritable audit log writes an event that is recorded just as a write ends", async () => {
    mkdirSync(place().file);
    const info = (): void => {
      queueMicrotask(() => {
        audit.record(event);
      });
    };
    const audit: AuditLog = new AuditLog(place(), { ...log, info }, RETRY);
    audit.record(event);
    await waitFor(() => !audit.up);
    rmSync(place().file, { recursive: true });
    await waitFor(() => audit.written === 2, { timeoutMs: 20_000 });
    await audit.stop();
  });

  it("an unwritable audit log does not delay a stop, which reports the lost events", async () => {
    mkdirSync(place().file);
    const audit = new AuditLog(place(), log, RETRY);
    audit.record(event);
    await audit.stop();
    expect(messages.at(-1)).toBe("audit events were lost when the plugin stopped");
  });
});

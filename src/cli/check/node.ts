// The part of `kms-pkcs11 check` about files and sockets on this machine, with the rights of the plugin's user. It tries
// what `serve` does, with the same code, and leaves nothing behind.
import { rmSync, statSync } from "node:fs";
import { get } from "node:http";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { tryAuditLog } from "../../audit/log-file.js";
import { readConfigurationFile } from "../../config/file.js";
import { readPin } from "../../config/read-pin.js";
import type { AuditSinkSettings } from "../../config/audit-settings.js";
import type { Settings } from "../../config/settings.js";
import { untrustedPaths, type PathProblem } from "../../config/trusted-paths.js";
import { KmsError } from "../../errors.js";
import { fileError } from "../../files/file-error.js";
import { askToRepair, writeStateFile } from "../../files/state-file.js";
import { freeBytes, nearestExisting, requireWritableFolder } from "../../files/writable-folder.js";
import { tryHttpAddress } from "../../observability/http.js";
import type { Report } from "./findings.js";

const MEBIBYTE = 1024 * 1024;
/** The state directory needs less than 2 MiB; a full disk stops logins and key switches. */
const LEAST_FREE_BYTES = 16 * MEBIBYTE;
const HTTP_LIMIT_MS = 2_000;
/** Time for a login, which takes seconds on a busy node: only then does a plugin listen on its socket. */
const REPLACED_WITHIN_MS = 20_000;
const REPLACED_INTERVAL_MS = 200;

export interface NodeCheck {
  readonly settings: Settings;
  /** Undefined if flags give everything. */
  readonly configPath: string | undefined;
  readonly report: Report;
  /** Called with the path of a socket that has the rights of the configured one, while clients can connect to it. */
  readonly probe: ((path: string) => void) | undefined;
  /** systemd reads the PIN's file as root and passes it on. */
  readonly systemdReadsPin?: boolean;
}

/** Adds the findings. Returns whether the module may be loaded. */
export async function checkNode(check: NodeCheck): Promise<boolean> {
  const { settings, configPath, report } = check;
  const problems = untrustedPaths(settings, { isCommand: true });
  const isFine = (subject: PathProblem["subject"]): boolean =>
    problems.every((problem) => problem.subject !== subject);
  for (const { subject, error } of problems) report.fail(subject, error);
  warnOfAnotherUser(settings, problems, report);
  if (configPath !== undefined) {
    await report.attempt("config", () => void readConfigurationFile(configPath));
  }
  await checkState(settings, isFine("state"), report);
  if (settings.audit !== undefined && isFine("audit")) await checkAudit(settings.audit, report);
  if (isFine("socket")) await untilReplaced(settings);
  const hasPlugin = isFine("socket") && (await checkSocket(check));
  await checkHttp(settings, hasPlugin, report);
  if (check.systemdReadsPin !== true) await checkPinSources(settings, report);
  return isFine("module");
}

/** Adds a warning for paths that are safe only if the plugin runs as their owner. */
function warnOfAnotherUser(settings: Settings, failed: readonly PathProblem[], report: Report): void {
  const known = new Set(failed.map(({ error }) => error.message));
  for (const { subject, error } of untrustedPaths(settings, { isCommand: false })) {
    if (!known.has(error.message)) {
      report.add("warn", subject, `a problem unless the plugin runs as that user: ${error.message}`);
    }
  }
}

async function checkState({ stateDir }: Settings, isFine: boolean, report: Report): Promise<void> {
  if (stateDir === undefined) {
    report.add(
      "warn",
      "state",
      "stateDir is missing; serve requires it, and without it every command tries a refused PIN again: set it or --state-dir",
    );
    return;
  }
  if (!isFine) return;
  await report.attempt("state", () => {
    const existing = nearestExisting(stateDir);
    tryStateDirectory(stateDir, existing === stateDir);
    const { uid, mode } = statSync(existing);
    const free = freeBytes(stateDir);
    const size = `${Math.floor(free / MEBIBYTE)} MiB free`;
    const text =
      existing === stateDir
        ? `${stateDir}, owner ${uid}, mode ${(mode & 0o7777).toString(8).padStart(4, "0")}, ${size}`
        : `${stateDir} will be created in ${existing}, ${size}`;
    if (free >= LEAST_FREE_BYTES) report.add("ok", "state", text);
    else report.add("warn", "state", `${text}; free some space on its file system`);
  });
}

/** @throws KmsError STATE_UNUSABLE */
function tryStateDirectory(stateDir: string, exists: boolean): void {
  const trial = join(stateDir, `.check-${process.pid}.json`);
  try {
    if (!exists) {
      requireWritableFolder(stateDir);
      return;
    }
    writeStateFile(trial, {});
    rmSync(trial, { force: true });
  } catch (error) {
    const text = `a PIN is only tried if the attempt can be recorded: ${askToRepair(trial, error)}`;
    throw new KmsError("STATE_UNUSABLE", text, error);
  }
}

async function checkAudit(
  { file, keyFile, sinks }: NonNullable<Settings["audit"]>,
  report: Report,
): Promise<void> {
  await report.attempt("audit", async () => {
    try {
      await tryAuditLog({ file, keyFile });
    } catch (error) {
      throw fileError(error) ?? error;
    }
    report.add("ok", "audit", `${file}, key ${keyFile}`);
  });
  if (sinks !== undefined) await checkSinks(sinks, report);
}

/** Connects to the sinks of the audit log. A failure is a warning, since requests and the log do not depend on them. */
async function checkSinks(sinks: AuditSinkSettings, report: Report): Promise<void> {
  const { trySinks } = await import("../../audit/sinks/try-sinks.js");
  for (const { name, failure } of await trySinks(sinks)) {
    if (failure === undefined) report.add("ok", "audit", `${name}: takes the audit log`);
    else report.add("warn", "audit", `${name} does not take the audit log: ${failure}`);
  }
}

/**
 * Waits while a plugin serves HTTP but has no socket: it is starting or ending. kubelet replaces the pod as soon as
 * `init` has written another manifest, and the preflight of `init` runs at that moment.
 */
async function untilReplaced({ http, socket }: Settings): Promise<void> {
  if (http === undefined || socket === undefined || socket.abstract) return;
  const { tryServerSocket } = await import("../../server/server.js");
  const isBetween = async (): Promise<boolean> =>
    (await isAlive(http)) &&
    (await tryServerSocket(socket).then(
      (peer) => peer === undefined,
      () => false,
    ));
  const end = Date.now() + REPLACED_WITHIN_MS;
  while (Date.now() < end && (await isBetween())) await setTimeout(REPLACED_INTERVAL_MS);
}

/** Returns whether a plugin listens on the socket. */
async function checkSocket({ settings: { socket }, report, probe }: NodeCheck): Promise<boolean> {
  if (socket === undefined) {
    report.add("warn", "socket", "socket.path is missing; serve requires it: set it or --socket");
    return false;
  }
  if (socket.abstract) {
    report.add(
      "warn",
      "socket",
      "an abstract socket has no access control: every process on the node can connect; set socket.path to a file",
    );
    return false;
  }
  let hasPlugin = false;
  await report.attempt("socket", async () => {
    const { tryServerSocket } = await import("../../server/server.js");
    const peer = await tryServerSocket(socket, probe);
    hasPlugin = peer?.isPlugin ?? false;
    if (peer === undefined) report.add("ok", "socket", `${socket.path} can be bound`);
    else if (peer.isPlugin) {
      report.add(
        "ok",
        "socket",
        `${socket.path} is in use: ${peer.description}; only one plugin can serve on it`,
      );
    } else {
      const text = `${socket.path} is in use: ${peer.description}; stop that process ('ss -xlp' shows its pid) or choose another socket`;
      throw new KmsError("SOCKET_UNUSABLE", text);
    }
  });
  return hasPlugin;
}

/** @param hasPlugin the address may be the running plugin's */
async function checkHttp({ http }: Settings, hasPlugin: boolean, report: Report): Promise<void> {
  if (http === undefined) return;
  const address = `${http.host}:${http.port}`;
  await report.attempt("http", async () => {
    try {
      await tryHttpAddress(http);
      report.add("ok", "http", `${address} is free`);
    } catch (error) {
      if (!hasPlugin || !(await isAlive(http))) throw error;
      report.add("ok", "http", `${address} is in use by the running plugin`);
    }
  });
}

function isAlive({ host, port }: NonNullable<Settings["http"]>): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({ host, port, path: "/livez", timeout: HTTP_LIMIT_MS }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.once("timeout", () => request.destroy());
    request.once("error", () => {
      resolve(false);
    });
  });
}

/** Checks that the plugin's user can read each PIN, without a PIN attempt. */
async function checkPinSources({ tokens }: Settings, report: Report): Promise<void> {
  for (const { pin } of tokens) {
    if (pin.kind !== "file" && pin.kind !== "credential") continue;
    await report.attempt("PIN", () => {
      readPin(pin, process.env)?.fill(0);
    });
  }
}

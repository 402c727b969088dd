// The composition root: the only file that constructs the plugin. Starts it in order, the socket first, so
// that kube-apiserver finds somebody to ask however long the HSM takes, and stops it in the reverse order.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import {
  checkPin,
  describePinSource,
  environmentWithoutPin,
  MAX_PIN_BYTES,
  pinSourceStamp,
  readPin,
  type PinSource,
} from "./config/pin-source.js";
import { formatPkcs11Uri, tokenSelector } from "./config/pkcs11-uri.js";
import { effectiveSettings, type Settings, type TokenSettings } from "./config/settings.js";
import { KmsError } from "./errors.js";
import { FailoverHsm } from "./hsm/failover.js";
import type { HsmObserver } from "./hsm/dispatcher.js";
import { HeldPin, stateAfter } from "./hsm/held-pin.js";
import { PinGate, type Pin } from "./hsm/pin-gate.js";
import { FilePinMemory, VolatilePinMemory } from "./hsm/pin-memory.js";
import type { Hsm } from "./hsm/port.js";
import { TokenHsm } from "./hsm/token-hsm.js";
import type { Log } from "./log.js";
import type { AuditEvent } from "./observability/audit-line.js";
import { AuditLog } from "./observability/audit-log.js";
import { RequestAudit } from "./observability/audit-requests.js";
import { startHttp, type HttpContent, type RunningHttp } from "./observability/http.js";
import { createLogger } from "./observability/logger.js";
import { Metrics } from "./observability/metrics.js";
import { RequestLog } from "./observability/request-log.js";
import type { SchedulePolicy } from "./provider/generations.js";
import { ProviderRoom } from "./provider/room.js";
import { FilePublishedMemory, NO_PUBLISHED_MEMORY } from "./provider/published-memory.js";
import { grpcStatusName } from "./server/grpc-status.js";
import { startServer, type RunningServer } from "./server/server.js";
import { startUnlock, type RunningUnlock } from "./server/unlock.js";

const TOKEN_HOST_ENTRY = fileURLToPath(new URL("./token-host/main.js", import.meta.url));
const DRAIN_MS = 5_000;
const HSM_STOP_MS = 1_000;
/** How long an operator who hands over a PIN waits for the token's word. */
const UNLOCK_MS = 15_000;

export const VERSION = (
  JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string }
).version;

/** How the names on the token are read, from the settings. */
export function schedulePolicy(settings: Settings): SchedulePolicy {
  const { objectName, pinnedKey, allowUnprotected } = settings;
  return { objectName, allowUnprotected, ...(pinnedKey !== undefined && { pinned: pinnedKey }) };
}

export interface TokenAccess {
  readonly settings: Settings;
  readonly token: TokenSettings;
  readonly hosts: number;
  readonly observer: HsmObserver;
  readonly log: Log;
  readonly env: NodeJS.ProcessEnv;
  /** A PIN that is handed over, in place of the source that the settings name. */
  readonly heldPin?: HeldPin | undefined;
}

/** One token's HSM layer, not yet started. */
export function openToken({ settings, token, hosts, observer, log, env, heldPin }: TokenAccess): TokenHsm {
  const { uri, modulePath, moduleParameters, pin } = token;
  const { requestTimeoutMs, startTimeoutMs, sessions, queue, allowFinalTry } = settings.hsm;
  const memory =
    settings.stateDir === undefined ? new VolatilePinMemory() : new FilePinMemory(settings.stateDir);
  const sources = settings.tokens.map((one) => one.pin);
  return new TokenHsm({
    host: {
      entry: TOKEN_HOST_ENTRY,
      env: environmentWithoutPin(env, sources),
      open: {
        modulePath,
        ...(moduleParameters !== undefined && { moduleParameters }),
        token: tokenSelector(uri),
        objectName: settings.objectName,
        ...(uri.id !== undefined && { ckaId: Buffer.from(uri.id).toString("hex") }),
      },
      sessions,
    },
    hosts,
    gate: new PinGate({ pin: heldPin ?? pinFrom(pin, env), memory, allowFinalTry, log }),
    startTimeoutMs,
    requestTimeoutMs,
    queue,
    observer,
    log,
  });
}

function pinFrom(source: PinSource, env: NodeJS.ProcessEnv): Pin {
  return {
    read: () => readPin(source, env),
    stamp: () => pinSourceStamp(source),
    description: describePinSource(source),
  };
}

/** A token whose PIN an operator hands over on a socket. */
interface LockedToken {
  readonly source: PinSource & { readonly kind: "unlock" };
  readonly held: HeldPin;
  readonly hsm: TokenHsm;
}

interface OpenedTokens {
  readonly tokens: readonly TokenHsm[];
  readonly locked: readonly LockedToken[];
  /** All of them as one. */
  readonly port: Hsm;
}

function openTokens(
  settings: Settings,
  observer: HsmObserver,
  log: Log,
  env: NodeJS.ProcessEnv,
): OpenedTokens {
  const { hosts, requestTimeoutMs } = settings.hsm;
  const locked: LockedToken[] = [];
  const members = settings.tokens.map((token) => {
    const { uri, pin: source } = token;
    const heldPin = source.kind === "unlock" ? holdPin(source.path) : undefined;
    const hsm = openToken({ settings, token, hosts, observer, log, env, heldPin });
    if (source.kind === "unlock" && heldPin !== undefined) locked.push({ source, held: heldPin, hsm });
    return { name: formatPkcs11Uri(uri), hsm };
  });
  const [only] = members;
  const port =
    only !== undefined && members.length === 1
      ? only.hsm
      : new FailoverHsm({ members, requestTimeoutMs, log });
  return { tokens: members.map(({ hsm }) => hsm), locked, port };
}

function holdPin(path: string): HeldPin {
  const missing = `the PIN has not been handed over since the start; run kms-pkcs11 unlock --socket ${path}`;
  return new HeldPin(`socket ${path}`, missing);
}

/** @throws KmsError SOCKET_UNUSABLE */
function startUnlocking({ source, held, hsm }: LockedToken): Promise<RunningUnlock> {
  return startUnlock({
    path: source.path,
    maxPinBytes: MAX_PIN_BYTES,
    take: async (bytes) => {
      const pin = checkPin(bytes, source);
      const state = await stateAfter(
        () => {
          held.give(pin);
        },
        () => hsm.state(),
        UNLOCK_MS,
      );
      const message = state.up
        ? "the token is logged in"
        : (state.reason?.message ?? "the token has not answered yet");
      return { unlocked: state.up, message };
    },
  });
}

export interface Plugin {
  readonly log: Log;
  /** Where the HTTP endpoints are, if there are any. */
  readonly http: RunningHttp | undefined;
  /** Drains requests, closes sessions, wipes what was kept and removes the socket. */
  stop(): Promise<void>;
}

/**
 * Starts the plugin; it serves, if only with an error, when this resolves.
 * @throws KmsError SOCKET_UNUSABLE when the socket or the HTTP port cannot be had
 */
export async function startPlugin(settings: Settings, env: NodeJS.ProcessEnv): Promise<Plugin> {
  const log = createLogger(settings.logLevel);
  const metrics = new Metrics(VERSION);
  log.info(
    { version: VERSION, node: process.version, settings: effectiveSettings(settings) },
    "kms-pkcs11 starts",
  );
  for (const warning of settings.warnings) log.warn({}, warning);
  const hsm = openTokens(settings, metrics, log, env);
  const room = providerRoom(settings, hsm.port, metrics, log);
  watchWith(metrics, room, hsm);
  const audit = openAudit(settings, metrics, log);
  const server = await serveSocket(settings, room, { metrics, audit, log });
  let http: RunningHttp | undefined;
  const unlocks: RunningUnlock[] = [];
  try {
    http = settings.http && (await startHttp(settings.http, httpContent(room, metrics)));
    for (const token of hsm.locked) unlocks.push(await startUnlocking(token));
  } catch (error) {
    for (const unlock of unlocks) unlock.stop();
    await http?.stop();
    await server.stop(0);
    throw error;
  }
  audit?.record(lifeEvent("started", settings));
  for (const token of hsm.tokens) token.start();
  room.start();
  return {
    log,
    http,
    stop: async () => {
      for (const unlock of unlocks) unlock.stop();
      await server.stop(DRAIN_MS);
      room.stop();
      await Promise.all(hsm.tokens.map((token) => token.stop(HSM_STOP_MS)));
      for (const { held } of hsm.locked) held.forget();
      await http?.stop();
      audit?.record(lifeEvent("stopped", settings));
      await audit?.stop();
      log.info({}, "kms-pkcs11 stopped");
    },
  };
}

function openAudit({ audit }: Settings, metrics: Metrics, log: Log): AuditLog | undefined {
  if (audit === undefined) return undefined;
  const opened = new AuditLog(audit, log);
  metrics.watchAudit(opened);
  return opened;
}

function lifeEvent(event: "started" | "stopped", { socket }: Settings): AuditEvent {
  const mode = socket?.mode.toString(8).padStart(4, "0") ?? "";
  return { event, version: VERSION, socket: socket?.path ?? "", mode, pid: process.pid };
}

async function serveSocket(
  settings: Settings,
  room: ProviderRoom,
  { metrics, audit, log }: { metrics: Metrics; audit: AuditLog | undefined; log: Log },
): Promise<RunningServer> {
  if (settings.socket === undefined) throw new KmsError("CONFIG_INVALID", "socket.path: is missing");
  const requestLog = new RequestLog(log);
  const requestAudit = audit && new RequestAudit(audit);
  const server = await startServer(settings.socket, room.provider, (request) => {
    const outcome = grpcStatusName(request.error?.code);
    metrics.requestDone(request.operation, outcome, request.seconds);
    requestLog.requestDone(request);
    requestAudit?.requestDone(request, outcome);
  });
  log.info({ socket: settings.socket.path, abstract: settings.socket.abstract }, "listening");
  return server;
}

function providerRoom(settings: Settings, hsm: Hsm, metrics: Metrics, log: Log): ProviderRoom {
  const { stateDir, health, cache, mode, mechanism, localKek, refreshIntervalMs } = settings;
  return new ProviderRoom({
    hsm,
    mode,
    mechanism,
    localKek,
    // A round reads and proves: the shorter of the two intervals serves both.
    intervalMs: Math.min(refreshIntervalMs, health.proofIntervalMs),
    policy: schedulePolicy(settings),
    outage: { gracePeriodMs: health.outageGracePeriodMs, onHsmLoss: health.onHsmLoss },
    cache: { ...cache, observer: metrics },
    memory: stateDir === undefined ? NO_PUBLISHED_MEMORY : new FilePublishedMemory(stateDir, log),
    log,
  });
}

function watchWith(metrics: Metrics, room: ProviderRoom, { port, tokens }: OpenedTokens): void {
  metrics.watch({
    hsmUp: () => port.state().up && room.outage.reason === undefined,
    outageSeconds: () => room.outage.seconds,
    readyHosts: () => sum(tokens, (token) => token.readyHosts),
    sessions: () => sum(tokens, (token) => token.sessions),
    queueLength: () => sum(tokens, (token) => token.queueLength),
    cacheEntries: () => room.cache.size,
    localKekUses: () => room.localKeks.uses,
    keys: () => room.keys(),
  });
}

function httpContent(room: ProviderRoom, metrics: Metrics): HttpContent {
  return {
    readiness: () => room.readiness(),
    keys: () => room.keyring(),
    metrics: () => metrics.text(),
    metricsType: metrics.contentType,
  };
}

function sum(tokens: readonly TokenHsm[], of: (token: TokenHsm) => number): number {
  return tokens.reduce((total, token) => total + of(token), 0);
}

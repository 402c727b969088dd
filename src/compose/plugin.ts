// The composition root: the only file that constructs the plugin. It binds the socket before any token host logs in, so
// that kube-apiserver gets an answer however long the HSM takes. closers.ts lists the order in which parts close.
import { effectiveSettings } from "../config/effective-settings.js";
import type { Settings } from "../config/settings.js";
import { requireTrustedPaths } from "../config/trusted-paths.js";
import { KmsError } from "../errors.js";
import type { HsmObserver } from "../hsm/hosts/dispatcher.js";
import type { Log } from "../log.js";
import type { AuditEvent } from "../audit/line.js";
import { RequestAudit } from "../audit/requests.js";
import { startHttp, type RunningHttp } from "../observability/http.js";
import { LogOutput, openSink } from "../observability/log-output.js";
import { createLogger } from "../observability/logger.js";
import type { Metrics } from "../observability/metrics.js";
import { RequestLog } from "../observability/request-log.js";
import { environmentWithoutTracing, startTracing, type Tracing } from "../observability/tracing.js";
import { RELOAD_MS } from "../provider/reload-schedule.js";
import { RunningProvider } from "../provider/running-provider.js";
import type { FinishedRequest } from "../server/kms-service.js";
import type { SocketObserver } from "../server/kept-socket.js";
import type { LimitObserver } from "../server/open-requests.js";
import type { RunningServer } from "../server/server.js";
import { startApprovals } from "./approvals.js";
import { PluginAudit } from "./audit.js";
import type { ActivationGate } from "../provider/activation-gate.js";
import { Closers } from "./closers.js";
import { DeferredHsmObserver } from "./deferred-hsm-observer.js";
import { observeProvider } from "./gauges.js";
import { httpContent, type Sockets } from "./http-content.js";
import { providerOptions } from "./provider.js";
import type { ReloadableParts } from "./reload.js";
import { startUnlocking } from "./unlock-socket.js";
import { PluginLock } from "./lock.js";
import { startWorkingSet } from "./working-set.js";
import { adminPinWarnings, openTokens, type OpenedTokens } from "./tokens.js";
import { VERSION } from "../version.js";
import { environmentWithoutNotifications } from "../observability/service-manager.js";
import { startWatchdog } from "../observability/watchdog.js";

/** Shortest time between two reloads of a library that may need them, in ms: each costs a login. */
const UNTIL_KNOWN_MS = 30_000;
/** How long requests in progress may take to finish at a stop, and token hosts to log out, in ms. */
const DRAIN_MS = 5_000;
const HSM_STOP_MS = 1_000;
/** How long log lines may wait for their reader at the end, in ms. */
const LOG_CLOSE_MS = 500;

/** A plugin that is running. */
export interface Plugin {
  readonly log: Log;
  /** Where the HTTP endpoints listen; undefined if none are configured. */
  readonly http: RunningHttp | undefined;
  readonly reloadable: ReloadableParts;
  /** Drains requests, closes sessions, wipes secrets and removes the socket. */
  stop(): Promise<void>;
}

/** What every later part of a start needs. */
interface Start {
  readonly settings: Settings;
  readonly env: NodeJS.ProcessEnv;
  readonly log: ReloadableParts["log"];
  readonly output: LogOutput;
  readonly closers: Closers;
}

/**
 * Starts the plugin, which answers requests when this resolves, if only with an error. Throws SOCKET_UNUSABLE if the
 * socket or the HTTP port cannot be bound; whatever was opened before a failure is closed.
 */
export async function startPlugin(
  settings: Settings,
  env: NodeJS.ProcessEnv,
  closers = new Closers(),
): Promise<Plugin> {
  requireTrustedPaths(settings, { isCommand: false });
  const output = new LogOutput(openSink(process.stdout.fd));
  const log = createLogger(settings.logLevel, output);
  const close = (isGraceful: boolean): Promise<void> =>
    closers.closeAll(isGraceful, (part, error) => {
      log.error({ part, err: error }, "a part of the plugin could not be closed");
    });
  try {
    closers.add("log output", async (isGraceful) => {
      if (isGraceful) log.info({}, "kms-pkcs11 stopped");
      await output.close(LOG_CLOSE_MS);
    });
    const parts = await startParts({ settings, env, log, output, closers });
    return { log, ...parts, stop: () => close(true) };
  } catch (error) {
    await close(false);
    throw error;
  }
}

/** Opens the parts in their order. Token hosts load their packages meanwhile, but log in only when all are open. */
async function startParts(start: Start): Promise<Pick<Plugin, "http" | "reloadable">> {
  const { settings, env, log, output, closers } = start;
  const version = { version: VERSION, node: process.version };
  log.info({ ...version, settings: effectiveSettings(settings) }, "kms-pkcs11 starts");
  for (const warning of [...settings.warnings, ...adminPinWarnings(settings, env)]) log.warn({}, warning);
  const observer = new DeferredHsmObserver();
  const hsm = openHsm(start, observer);
  const metrics = new (await import("../observability/metrics.js")).Metrics(VERSION);
  metrics.addLogState(output);
  observer.metrics = metrics;
  const tracing = await startTracing(env, VERSION, log);
  closers.add("tracing", () => tracing?.stop());
  const gate = await startApprovals(start);
  const running = openRunningProvider(settings, hsm, metrics, log, gate);
  const audit = openAudit(start, metrics);
  const server = await serveSocket(start, running, { metrics, tracing, audit });
  const record = (event: AuditEvent): void => audit?.record(event);
  const forgetSeeds = (): void => {
    running.forgetSeeds();
  };
  const lock = new PluginLock({ ...hsm, forgetSeeds, log, record });
  metrics.addLock(lock);
  const sockets: Sockets = { server, unlock: [], lock };
  const http =
    settings.http && (await startHttp(settings.http, httpContent(settings, running, sockets, metrics)));
  closers.add("HTTP endpoints", () => http?.stop());
  for (const token of hsm.locked) {
    const unlock = await startUnlocking({ token, lock, record, log });
    sockets.unlock.push(unlock);
    closers.add("unlock sockets", () => {
      unlock.stop();
    });
  }
  audit?.record(lifeEvent("started", settings));
  for (const token of hsm.tokens) token.start();
  const workingSet = startWorkingSet({ ...start, running, metrics });
  running.start();
  // A provider that never ran must not write the state directory: another plugin may be using it.
  closers.add("provider", () => {
    running.stop();
  });
  const watchdog = startWatchdog(env, log);
  closers.add("watchdog", () => watchdog?.stop());
  const { cache } = running;
  return { http, reloadable: { log, cache, workingSet, audit, pins: hsm.pins } };
}

function openHsm({ settings, env, log, closers }: Start, observer: HsmObserver): OpenedTokens {
  const hsm = openTokens(
    settings,
    observer,
    log,
    environmentWithoutNotifications(environmentWithoutTracing(env)),
  );
  closers.add("token hosts", async (isGraceful) => {
    await Promise.all(hsm.tokens.map((token) => token.stop(isGraceful ? HSM_STOP_MS : 0)));
  });
  closers.add("held PINs", () => {
    for (const { held } of hsm.locked) held.forget();
  });
  // A token host takes as long to load its packages as the plugin does: load both at the same time.
  for (const token of hsm.tokens) token.prepare();
  return hsm;
}

function openRunningProvider(
  settings: Settings,
  hsm: OpenedTokens,
  metrics: Metrics,
  log: Log,
  gate: ActivationGate | undefined,
): RunningProvider {
  const oftenMs = settings.refreshIntervalMs;
  const intervals = { oftenMs, untilKnownMs: Math.max(oftenMs, UNTIL_KNOWN_MS), rarelyMs: RELOAD_MS };
  const running = new RunningProvider({
    ...providerOptions(settings, hsm.port, metrics, log),
    gate,
    // A reload replaces the warm token host; without one, requests would wait for the reload.
    reload: { intervals: settings.hsm.hosts > 1 ? intervals : undefined },
  });
  observeProvider(metrics, running, hsm, settings);
  return running;
}

function openAudit({ settings, log, closers }: Start, metrics: Metrics): PluginAudit | undefined {
  if (settings.audit === undefined) return undefined;
  const audit = new PluginAudit(settings.audit, log);
  metrics.addAuditState(audit);
  closers.add("audit log", async (isGraceful) => {
    if (isGraceful) audit.record(lifeEvent("stopped", settings));
    await audit.stop();
  });
  return audit;
}

function lifeEvent(event: "started" | "stopped", { socket }: Settings): AuditEvent {
  const mode = socket?.mode.toString(8).padStart(4, "0") ?? "";
  return { event, version: VERSION, socket: socket?.path ?? "", mode, pid: process.pid };
}

interface RequestObservers {
  readonly metrics: Metrics;
  readonly audit: PluginAudit | undefined;
  readonly tracing: Tracing | undefined;
}

async function serveSocket(
  { settings, log, closers }: Start,
  running: RunningProvider,
  { metrics, audit, tracing }: RequestObservers,
): Promise<RunningServer> {
  if (settings.socket === undefined) {
    throw new KmsError("CONFIG_INVALID", "socket.path: is missing; set it or --socket");
  }
  const { startServer } = await import("../server/server.js");
  const { grpcStatusName } = await import("../server/grpc-status.js");
  const requestLog = new RequestLog(log);
  const requestAudit = audit && new RequestAudit(audit);
  const onRequest = (request: FinishedRequest): void => {
    const outcome = grpcStatusName(request.error?.code);
    metrics.requestDone(request.operation, outcome, request.seconds);
    requestLog.requestDone(request);
    requestAudit?.requestDone(request, outcome);
    tracing?.requestDone(request, outcome);
  };
  const onLimit: LimitObserver = (limit) => {
    metrics.limitReached(limit);
    requestLog.limitReached(limit);
  };
  const onSocket: SocketObserver = (problem) => {
    if (problem === undefined) log.info({ socket: settings.socket?.path }, "clients can connect again");
    else log.error({ socket: settings.socket?.path }, problem);
  };
  const server = await startServer(settings.socket, running.provider, onRequest, onLimit, onSocket);
  closers.add("server", async (isGraceful) => {
    await server.stop(isGraceful ? DRAIN_MS : 0);
    requestLog.flush();
  });
  log.info({ socket: settings.socket.path, abstract: settings.socket.abstract }, "listening");
  return server;
}

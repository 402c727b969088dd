// The composition root: the only file that constructs the plugin. Starts it in order, the socket first, so
// that kube-apiserver finds somebody to ask however long the HSM takes, and stops it in the reverse order.
import { effectiveSettings, type Settings } from "../config/settings.js";
import { requireTrustedPaths } from "../config/trusted-paths.js";
import { KmsError } from "../errors.js";
import type { HsmObserver } from "../hsm/hosts/dispatcher.js";
import type { Log } from "../log.js";
import type { AuditEvent } from "../audit/line.js";
import { AuditLog } from "../audit/log.js";
import { RequestAudit } from "../audit/requests.js";
import { startHttp, type HttpContent, type RunningHttp } from "../observability/http.js";
import { LogOutput, openSink } from "../observability/log-output.js";
import { createLogger } from "../observability/logger.js";
import type { Metrics } from "../observability/metrics.js";
import { RequestLog } from "../observability/request-log.js";
import { environmentWithoutTracing, startTracing, type Tracing } from "../observability/tracing.js";
import { RunningProvider } from "../provider/running-provider.js";
import type { FinishedRequest } from "../server/kms-service.js";
import type { RunningServer } from "../server/server.js";
import type { RunningUnlock } from "../server/unlock.js";
import { observeProvider } from "./gauges.js";
import { providerOptions } from "./provider.js";
import { openTokens, startUnlocking, type OpenedTokens } from "./tokens.js";
import { VERSION } from "../version.js";
import { environmentWithoutWatchdog, startWatchdog } from "../observability/watchdog.js";

/** Between two readings of the tokens by libraries loaded anew, in ms. */
const RELOAD_MS = 10 * 60_000;
const DRAIN_MS = 5_000;
const HSM_STOP_MS = 1_000;
/** For log lines that still wait for their reader. */
const LOG_CLOSE_MS = 500;

export interface Plugin {
  readonly log: Log;
  /** Where the HTTP endpoints are, if there are any. */
  readonly http: RunningHttp | undefined;
  /** Drains requests, closes sessions, wipes what was kept and removes the socket. */
  stop(): Promise<void>;
}

/**
 * Starts the plugin; it serves, if only with an error, when this resolves.
 * @throws KmsError SOCKET_UNUSABLE when the socket or the HTTP port cannot be bound
 */
export async function startPlugin(settings: Settings, env: NodeJS.ProcessEnv): Promise<Plugin> {
  requireTrustedPaths(settings, { isCommand: false });
  const output = new LogOutput(openSink(process.stdout.fd));
  const log = createLogger(settings.logLevel, output);
  log.info(
    { version: VERSION, node: process.version, settings: effectiveSettings(settings) },
    "kms-pkcs11 starts",
  );
  for (const warning of settings.warnings) log.warn({}, warning);
  let metrics: Metrics | undefined;
  const observer: HsmObserver = {
    hsmCallDone: (operation, result, seconds) => metrics?.hsmCallDone(operation, result, seconds),
    hostEnded: (cause) => metrics?.hostEnded(cause),
  };
  const hsm = openTokens(settings, observer, log, environmentWithoutWatchdog(environmentWithoutTracing(env)));
  // A token host takes as long to load its packages as the plugin does: both at once.
  for (const token of hsm.tokens) token.prepare();
  try {
    metrics = new (await import("../observability/metrics.js")).Metrics(VERSION);
    metrics.watchLog(output);
    const tracing = await startTracing(env, VERSION, log);
    return await startAround(hsm, settings, { metrics, tracing, log, output, env });
  } catch (error) {
    await Promise.all(hsm.tokens.map((token) => token.stop(0)));
    await output.close(LOG_CLOSE_MS);
    throw error;
  }
}

type Watchers = Pick<RequestWatchers, "metrics" | "tracing" | "log"> & {
  readonly output: LogOutput;
  readonly env: NodeJS.ProcessEnv;
};

async function startAround(hsm: OpenedTokens, settings: Settings, watchers: Watchers): Promise<Plugin> {
  const { metrics, tracing, log } = watchers;
  const running = new RunningProvider({
    ...providerOptions(settings, hsm.port, metrics, log),
    // In the place of a warm token host: where there is none, requests wait for the reload.
    reload: { everyMs: settings.hsm.hosts > 1 ? RELOAD_MS : undefined },
  });
  observeProvider(metrics, running, hsm);
  const audit = openAudit(settings, metrics, log);
  const server = await serveSocket(settings, running, { ...watchers, audit });
  let http: RunningHttp | undefined;
  const unlocks: RunningUnlock[] = [];
  try {
    http = settings.http && (await startHttp(settings.http, httpContent(running, server, metrics)));
    for (const token of hsm.locked) unlocks.push(await startUnlocking(token));
  } catch (error) {
    for (const unlock of unlocks) unlock.stop();
    await http?.stop();
    await server.stop(0);
    throw error;
  }
  audit?.record(lifeEvent("started", settings));
  for (const token of hsm.tokens) token.start();
  running.start();
  const watchdog = startWatchdog(watchers.env, log);
  return {
    log,
    http,
    stop: async () => {
      watchdog?.stop();
      for (const unlock of unlocks) unlock.stop();
      await server.stop(DRAIN_MS);
      running.stop();
      await Promise.all(hsm.tokens.map((token) => token.stop(HSM_STOP_MS)));
      for (const { held } of hsm.locked) held.forget();
      await http?.stop();
      audit?.record(lifeEvent("stopped", settings));
      await Promise.all([audit?.stop(), tracing?.stop()]);
      log.info({}, "kms-pkcs11 stopped");
      await watchers.output.close(LOG_CLOSE_MS);
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

interface RequestWatchers {
  readonly metrics: Metrics;
  readonly audit: AuditLog | undefined;
  readonly tracing: Tracing | undefined;
  readonly log: Log;
}

async function serveSocket(
  settings: Settings,
  running: RunningProvider,
  { metrics, audit, tracing, log }: RequestWatchers,
): Promise<RunningServer> {
  if (settings.socket === undefined) throw new KmsError("CONFIG_INVALID", "socket.path: is missing");
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
  const server = await startServer(settings.socket, running.provider, onRequest, (limit) => {
    metrics.limitReached(limit);
    requestLog.limitReached(limit);
  });
  log.info({ socket: settings.socket.path, abstract: settings.socket.abstract }, "listening");
  return server;
}

function httpContent(running: RunningProvider, server: RunningServer, metrics: Metrics): HttpContent {
  return {
    readiness: () => {
      const { ready, lines } = running.readiness();
      const problem = server.socketProblem();
      if (problem === undefined) return { ready, lines };
      return { ready: false, lines: [problem, ...(ready ? [] : lines)] };
    },
    keys: (refresh) => running.keyring(refresh),
    metrics: () => metrics.text(),
    metricsType: metrics.contentType,
  };
}

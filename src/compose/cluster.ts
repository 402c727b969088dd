// One cluster as the plugin serves it: its approvals, provider, audit log and socket. A plugin has one of these, or one for
// each of its clusters; what the clusters share is in plugin.ts.
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { AuditEvent } from "../audit/line.js";
import { RequestAudit } from "../audit/requests.js";
import type { Hsm } from "../hsm/port.js";
import type { ClusterMetrics } from "../observability/cluster-metrics.js";
import { RequestLog } from "../observability/request-log.js";
import type { Tracing } from "../observability/tracing.js";
import type { ActivationGate } from "../provider/activation-gate.js";
import type { OtherClusters } from "../provider/demanded-readings.js";
import { RELOAD_MS, type LibraryKind } from "../provider/reload-schedule.js";
import { RunningProvider } from "../provider/running-provider.js";
import type { FinishedRequest } from "../server/kms-service.js";
import type { SocketObserver } from "../server/kept-socket.js";
import type { LimitObserver } from "../server/open-requests.js";
import type { RunningServer } from "../server/server.js";
import { VERSION } from "../version.js";
import { startApprovals } from "./approvals.js";
import { PluginAudit } from "./audit.js";
import type { Closers } from "./closers.js";
import type { ConfiguredPin } from "./configured-pin.js";
import { observeProvider } from "./gauges.js";
import { providerOptions } from "./provider.js";
import type { ReloadableParts } from "./reload.js";
import { startWorkingSet } from "./working-set.js";

/** Shortest time between two reloads of a library that may need them, in ms: each costs a login. */
const UNTIL_KNOWN_MS = 30_000;
/** How long requests in progress may take to finish at a stop, in ms. */
const DRAIN_MS = 5_000;
/** Part of the interval of readings for which a cluster uses another cluster's reading. */
const SHARED_READING = 0.5;

/** The HSM as one cluster uses it. */
export interface ClusterHsm {
  readonly port: Hsm;
  /** In the order of the cluster's tokens; undefined for a PIN that an operator submits. */
  readonly pins: readonly (ConfiguredPin | undefined)[];
  /** What is known of the token's library, if several clusters share the token. */
  readonly library?: LibraryKind;
  readonly otherClusters?: OtherClusters;
}

/** What a cluster is opened with. */
export interface ClusterStart {
  readonly settings: Settings;
  readonly log: ReloadableParts["log"];
  readonly closers: Closers;
  readonly hsm: ClusterHsm;
  readonly metrics: ClusterMetrics;
  readonly tracing: Tracing | undefined;
}

/** A cluster whose socket answers requests. */
export interface OpenCluster {
  readonly running: RunningProvider;
  readonly server: RunningServer;
  readonly record: (event: AuditEvent) => void;
  /** Starts the background work, once the token hosts have been started. */
  begin(): ReloadableParts;
}

/** Opens a cluster. @throws KmsError SOCKET_UNUSABLE; `closers` then closes what was opened */
export async function openCluster(start: ClusterStart): Promise<OpenCluster> {
  const { settings, log, closers, hsm, metrics } = start;
  const gate = await startApprovals(start);
  const running = openRunningProvider(start, gate);
  const audit = openAudit(start);
  const server = await serveSocket(start, running, audit);
  return {
    running,
    server,
    record: (event) => audit?.record(event),
    begin: () => {
      audit?.record(lifeEvent("started", settings));
      const workingSet = startWorkingSet({ settings, running, metrics, closers, log });
      running.start();
      // A provider that never ran must not write the state directory: another plugin may be using it.
      closers.add("provider", () => {
        running.stop();
      });
      return { log, cache: running.cache, workingSet, audit, pins: hsm.pins };
    },
  };
}

function openRunningProvider(
  { settings, log, hsm, metrics }: ClusterStart,
  gate: ActivationGate | undefined,
): RunningProvider {
  const oftenMs = settings.refreshIntervalMs;
  const intervals = { oftenMs, untilKnownMs: Math.max(oftenMs, UNTIL_KNOWN_MS), rarelyMs: RELOAD_MS };
  const { library, otherClusters } = hsm;
  const running = new RunningProvider({
    ...providerOptions(settings, hsm.port, metrics, log),
    gate,
    otherClusters,
    // A reload replaces the warm token host; without one, requests would wait for the reload.
    reload: {
      intervals: settings.hsm.hosts > 1 ? intervals : undefined,
      ...(library !== undefined && { library }),
    },
    ...(library !== undefined && { maxReadingAgeMs: SHARED_READING * oftenMs }),
  });
  observeProvider(metrics, running, hsm.port, settings);
  return running;
}

function openAudit({ settings, log, closers, metrics }: ClusterStart): PluginAudit | undefined {
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

async function serveSocket(
  { settings, log, closers, metrics, tracing }: ClusterStart,
  running: RunningProvider,
  audit: PluginAudit | undefined,
): Promise<RunningServer> {
  const { socket, cluster } = settings;
  if (socket === undefined) {
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
    if (problem === undefined) log.info({ socket: socket.path }, "clients can connect again");
    else log.error({ socket: socket.path }, problem);
  };
  const server = await startServer(socket, running.provider, onRequest, onLimit, {
    onSocket,
    served: cluster?.requests,
  });
  closers.add("server", async (isGraceful) => {
    await server.stop(isGraceful ? DRAIN_MS : 0);
    requestLog.flush();
  });
  log.info({ socket: socket.path, abstract: socket.abstract }, "listening");
  return server;
}

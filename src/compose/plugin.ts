// The composition root: constructs the plugin. It binds every socket before any token host logs in, so that kube-apiserver
// gets an answer however long the HSM takes. service.ts and clusters.ts construct what is served; closers.ts lists the
// order in which parts close.
import { effectiveSettings } from "../config/effective-settings.js";
import type { Configuration } from "../config/settings.js";
import { environmentOfHosts } from "../early-host.js";
import { startHttp, type RunningHttp } from "../observability/http.js";
import { LogOutput, openSink } from "../observability/log-output.js";
import { createLogger } from "../observability/logger.js";
import { startTracing } from "../observability/tracing.js";
import { startWatchdog } from "../observability/watchdog.js";
import { VERSION } from "../version.js";
import { Closers } from "./closers.js";
import { DeferredHsmObserver } from "./deferred-hsm-observer.js";
import { observeTokens } from "./gauges.js";
import type { PluginSockets } from "./http-content.js";
import { PluginLock } from "./lock.js";
import { prepareOnly, type LoadAll, type PreparedService, type ServiceStart } from "./service.js";
import type { LockedToken } from "./tokens.js";
import { adminPinWarnings } from "./tokens.js";
import { startUnlocking, type UnlockSocketOptions } from "./unlock-socket.js";

/** How long token hosts may take to log out at a stop, in ms. */
const HSM_STOP_MS = 1_000;
/** How long log lines may wait for their reader at the end, in ms. */
const LOG_CLOSE_MS = 500;

/** A plugin that is running. */
export interface Plugin {
  readonly log: ServiceStart["log"];
  /** Where the HTTP endpoints listen; undefined if none are configured. */
  readonly http: RunningHttp | undefined;
  /** Applies a changed configuration, and logs what changed. Never throws. */
  reload(load: LoadAll): Promise<void>;
  /** Drains requests, closes sessions, wipes secrets and removes the socket. */
  stop(): Promise<void>;
}

type Configurations = readonly [Configuration, ...Configuration[]];

/**
 * Starts the plugin, which answers requests when this resolves, if only with an error. Whatever was opened before a failure
 * is closed.
 * @param configurations one, or one for each cluster
 * @throws KmsError SOCKET_UNUSABLE if no socket can be bound, or if the HTTP port cannot
 */
export async function startPlugin(
  configurations: readonly Configuration[],
  env: NodeJS.ProcessEnv,
  closers = new Closers(),
): Promise<Plugin> {
  const [first, ...others] = configurations;
  if (first === undefined) throw new TypeError("there is nothing to serve");
  const output = new LogOutput(openSink(process.stdout.fd));
  const log = createLogger(first.settings.logLevel, output);
  const close = (isGraceful: boolean): Promise<void> =>
    closers.closeAll(isGraceful, (part, error) => {
      log.error({ part, err: error }, "a part of the plugin could not be closed");
    });
  try {
    closers.add("log output", async (isGraceful) => {
      if (isGraceful) log.info({}, "kms-pkcs11 stopped");
      await output.close(LOG_CLOSE_MS);
    });
    const hostEnv = environmentOfHosts(env);
    const start = { env, hostEnv, log, output, closers };
    const parts = await startParts([first, ...others], start);
    return { log, ...parts, stop: () => close(true) };
  } catch (error) {
    await close(false);
    throw error;
  }
}

interface Start extends Omit<ServiceStart, "observer"> {
  readonly env: NodeJS.ProcessEnv;
  readonly output: LogOutput;
}

/** Opens the parts in their order. Token hosts load their packages meanwhile, but log in only when all are open. */
async function startParts(
  configurations: Configurations,
  start: Start,
): Promise<Omit<Plugin, "log" | "stop">> {
  const { env, log, output, closers } = start;
  logStart(configurations, start);
  const observer = new DeferredHsmObserver();
  const prepared = await prepare(configurations, { ...start, observer });
  const metrics = new (await import("../observability/metrics.js")).Metrics(VERSION);
  metrics.addLogState(output);
  observer.metrics = metrics;
  observeTokens(metrics, () => prepared.tokens);
  const tracing = await startTracing(env, VERSION, log);
  closers.add("tracing", () => tracing?.stop());
  const service = await prepared.open(metrics, tracing);
  const lock = new PluginLock({ hsm: prepared, ...service, log });
  metrics.addLock(lock);
  const sockets: PluginSockets = { unlock: [], lock };
  const { http: address } = configurations[0].settings;
  const http = address && (await startHttp(address, service.content(sockets), service.clusters?.(sockets)));
  closers.add("HTTP endpoints", () => http?.stop());
  const startUnlockSockets = unlockStarter(prepared, sockets, { lock, record: service.record, log }, closers);
  await startUnlockSockets();
  for (const token of prepared.tokens) token.start();
  service.begin();
  const watchdog = startWatchdog(env, log);
  closers.add("watchdog", () => watchdog?.stop());
  const reload = async (load: LoadAll): Promise<void> => {
    await service.reload(load);
    await startUnlockSockets().catch((error: unknown) => {
      log.error({ err: error }, "operators cannot submit a PIN");
    });
  };
  return { http, reload };
}

/** Returns a function that starts the unlock sockets of those tokens that have none yet. */
function unlockStarter(
  prepared: Pick<PreparedService, "locked">,
  sockets: PluginSockets,
  parts: Omit<UnlockSocketOptions, "token">,
  closers: Start["closers"],
): () => Promise<void> {
  const unlocking = new Set<LockedToken>();
  return async () => {
    for (const token of prepared.locked.filter((one) => !unlocking.has(one))) {
      unlocking.add(token);
      const unlock = await startUnlocking({ token, ...parts });
      sockets.unlock.push(unlock);
      closers.add("unlock sockets", () => {
        unlock.stop();
      });
    }
  };
}

function logStart(configurations: Configurations, { env, log }: Start): void {
  const version = { version: VERSION, node: process.version };
  const clusters = configurations.flatMap(({ settings }) => settings.cluster?.name ?? []);
  const { settings } = configurations[0];
  const shown = clusters.length === 0 ? { settings: effectiveSettings(settings) } : { clusters };
  log.info({ ...version, ...shown }, "kms-pkcs11 starts");
  const warnings = configurations.flatMap((one) => [
    ...one.settings.warnings,
    ...adminPinWarnings(one.settings, env),
  ]);
  for (const warning of new Set(warnings)) log.warn({}, warning);
}

async function prepare([first, ...others]: Configurations, start: ServiceStart): Promise<PreparedService> {
  const { closers } = start;
  const isOnly = first.settings.cluster === undefined;
  const prepared = isOnly
    ? prepareOnly(first, start)
    : (await import("./clusters.js")).prepareClusters([first, ...others], start);
  closers.add("token hosts", async (isGraceful) => {
    await Promise.all(prepared.tokens.map((token) => token.stop(isGraceful ? HSM_STOP_MS : 0)));
  });
  closers.add("held PINs", () => {
    for (const { held } of prepared.locked) held.forget();
  });
  // A token host takes as long to load its packages as the plugin does: load both at the same time.
  for (const token of prepared.tokens) token.prepare();
  return prepared;
}

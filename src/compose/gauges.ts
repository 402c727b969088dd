// Connects the metrics' gauges with the parts that they are read from. Reading a gauge changes nothing.
import type { Settings } from "../config/settings.js";
import type { Hsm } from "../hsm/port.js";
import type { TokenHsm } from "../hsm/token-hsm.js";
import type { ClusterMetrics } from "../observability/cluster-metrics.js";
import type { Metrics } from "../observability/metrics.js";
import { ProcessUsage } from "../observability/process-usage.js";
import type { RunningProvider } from "../provider/running-provider.js";

/** Registers the gauges of the token hosts. @param tokens returns the open tokens */
export function observeTokens(metrics: Metrics, tokens: () => readonly TokenHsm[]): void {
  const pids = (): number[] => tokens().flatMap((token) => token.pids);
  const hosts = new ProcessUsage(pids);
  const all = new ProcessUsage(() => [process.pid, ...pids()]);
  const sum = (of: (token: TokenHsm) => number): number =>
    tokens().reduce((total, token) => total + of(token), 0);
  metrics.addTokenState({
    proportionalBytes: () => all.proportionalBytes,
    hostResidentBytes: () => hosts.residentBytes,
    hostCpuSeconds: () => hosts.cpuSeconds,
    readyHosts: () => sum((token) => token.readyHosts),
    sessions: () => sum((token) => token.sessions),
    queueLength: () => sum((token) => token.queueLength),
  });
}

/** Registers the gauges of a provider. */
export function observeProvider(
  metrics: ClusterMetrics,
  running: RunningProvider,
  port: Hsm,
  { cryptoperiodMs = 0 }: Pick<Settings, "cryptoperiodMs">,
): void {
  metrics.addProviderState({
    hsmUp: () => port.state().up && running.outage.reason === undefined,
    outageSeconds: () => running.outage.seconds,
    heldBack: () => running.isHeldBack,
    keyringUp: () => !running.reading.failed,
    readingSeconds: () => running.reading.seconds,
    graceSeconds: () => running.outage.policy.gracePeriodMs / 1000,
    cacheEntries: () => running.cache.size,
    localKekUses: () => running.localKeks.uses,
    cryptoperiodSeconds: () => cryptoperiodMs / 1000,
    keys: () => running.keys(),
  });
}

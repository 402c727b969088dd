// Connects the metrics' gauges with the parts that they are read from. Reading a gauge changes nothing.
import type { Settings } from "../config/settings.js";
import type { TokenHsm } from "../hsm/token-hsm.js";
import type { Metrics } from "../observability/metrics.js";
import { ProcessUsage } from "../observability/process-usage.js";
import type { RunningProvider } from "../provider/running-provider.js";
import type { OpenedTokens } from "./tokens.js";

/** Registers the gauges of the provider and of its tokens. */
export function observeProvider(
  metrics: Metrics,
  running: RunningProvider,
  { port, tokens }: Pick<OpenedTokens, "port" | "tokens">,
  { cryptoperiodMs = 0 }: Pick<Settings, "cryptoperiodMs">,
): void {
  const hosts = new ProcessUsage(() => tokens.flatMap((token) => token.pids));
  const all = new ProcessUsage(() => [process.pid, ...tokens.flatMap((token) => token.pids)]);
  metrics.addPluginState({
    hsmUp: () => port.state().up && running.outage.reason === undefined,
    outageSeconds: () => running.outage.seconds,
    heldBack: () => running.isHeldBack,
    keyringUp: () => !running.reading.failed,
    readingSeconds: () => running.reading.seconds,
    graceSeconds: () => running.outage.policy.gracePeriodMs / 1000,
    proportionalBytes: () => all.proportionalBytes,
    hostResidentBytes: () => hosts.residentBytes,
    hostCpuSeconds: () => hosts.cpuSeconds,
    readyHosts: () => sum(tokens, (token) => token.readyHosts),
    sessions: () => sum(tokens, (token) => token.sessions),
    queueLength: () => sum(tokens, (token) => token.queueLength),
    cacheEntries: () => running.cache.size,
    localKekUses: () => running.localKeks.uses,
    cryptoperiodSeconds: () => cryptoperiodMs / 1000,
    keys: () => running.keys(),
  });
}

function sum(tokens: readonly TokenHsm[], of: (token: TokenHsm) => number): number {
  return tokens.reduce((total, token) => total + of(token), 0);
}

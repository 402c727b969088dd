// Every metric of the plugin, from its own answer to Prometheus.

import { Metrics } from "../../src/observability/metrics.js";

export interface MetricReference {
  readonly name: string;
  readonly type: string;
  readonly help: string;
}

export async function metricReference(): Promise<MetricReference[]> {
  const metrics = new Metrics("0");
  const zero = (): number => 0;
  metrics.addTokenState({
    proportionalBytes: zero,
    hostResidentBytes: zero,
    hostCpuSeconds: zero,
    readyHosts: zero,
    sessions: zero,
    queueLength: zero,
  });
  const cluster = metrics.ofCluster();
  cluster.addProviderState({
    hsmUp: () => true,
    outageSeconds: zero,
    graceSeconds: zero,
    heldBack: () => false,
    keyringUp: () => true,
    readingSeconds: zero,
    cacheEntries: zero,
    localKekUses: zero,
    cryptoperiodSeconds: zero,
    keys: () => [],
  });
  cluster.addWorkingSet(() => ({
    remembered: 0,
    pending: 0,
    prefetched: 0,
    failed: 0,
    used: 0,
    renewed: 0,
    renewalsFailed: 0,
  }));
  const sink = { name: "syslog", up: true, lagSeconds: 0, lines: 0, missing: 0 };
  cluster.addAuditState({ up: true, buffered: 0, written: 0, lost: 0, sinks: [sink] });
  metrics.addLock({ isLocked: false });
  metrics.addLogState({ dropped: 0 });
  const text = await metrics.text();
  const helps = new Map([...text.matchAll(/^# HELP (\S+) (.*)$/gm)].map(([, name, help]) => [name, help]));
  return [...text.matchAll(/^# TYPE (\S+) (\w+)$/gm)].map(([, name = "", type = ""]) => ({
    name: type === "counter" ? `${name}_total` : name,
    type,
    help: helps.get(name) ?? "",
  }));
}

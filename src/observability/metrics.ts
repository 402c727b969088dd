// The plugin's metrics for Prometheus: base units, few labels, and key_ids hashed as in kube-apiserver's own metrics, so
// that both can be joined. Lower layers see only the methods that they call. This file has the metrics of the process and
// its token hosts; cluster-metrics.ts has those of a cluster.
import {
  Counter,
  Gauge,
  Histogram,
  Registry,
  collectDefaultMetrics,
  type OpenMetricsContentType,
} from "prom-client";
import { ClusterMetrics } from "./cluster-metrics.js";
import { mergeExpositions } from "./exposition.js";
import { addLock, addLogState, addTokenState, type TokenState } from "./scraped-metrics.js";
import { SECONDS_BUCKETS, Series } from "./series.js";

/**
 * Sampling interval of the event loop's delay, in ms: at the default of 10 an idle plugin wakes up 100 times a second.
 */
const LOOP_SAMPLE_MS = 100;

/** Holds the plugin's metrics, and records calls to token hosts in them. */
export class Metrics {
  // OpenMetrics whatever the client accepts: prom-client renames its counters permanently when it writes OpenMetrics.
  readonly #registry = openMetricsRegistry();
  readonly #hsmCalls = new Counter({
    name: "kms_pkcs11_hsm_calls_total",
    help: "Operations under a KEK that were sent to the token, by result.",
    labelNames: ["operation", "result"],
    registers: [this.#registry],
  });
  readonly #hsmCallSeconds = new Histogram({
    name: "kms_pkcs11_hsm_call_seconds",
    help: "Time from sending an operation to the token host to its reply.",
    labelNames: ["operation", "result"],
    buckets: SECONDS_BUCKETS,
    registers: [this.#registry],
  });
  readonly #restarts = new Counter({
    name: "kms_pkcs11_token_host_restarts_total",
    help: "Token hosts that ended and were replaced, by cause.",
    labelNames: ["cause"],
    registers: [this.#registry],
  });
  readonly #clusters = new Map<string, ClusterMetrics>();

  readonly #countedHsm = new Series((operation, result) => ({
    count: this.#hsmCalls.labels({ operation, result }),
    seconds: this.#hsmCallSeconds.labels({ operation, result }),
  }));

  constructor(version: string) {
    collectDefaultMetrics({
      register: this.#registry,
      prefix: "kms_pkcs11_",
      eventLoopMonitoringPrecision: LOOP_SAMPLE_MS,
    });
    const build = new Gauge({
      name: "kms_pkcs11_build_info",
      help: "Always 1; the labels give the versions of the plugin and of Node.js.",
      labelNames: ["version", "node"],
      registers: [this.#registry],
    });
    build.set({ version, node: process.version }, 1);
  }

  /**
   * Returns the metrics of a cluster.
   * @param cluster its name, which becomes a label; undefined if the plugin serves only one
   */
  ofCluster(cluster?: string): ClusterMetrics {
    if (cluster === undefined) return new ClusterMetrics(this.#registry);
    const registry = openMetricsRegistry();
    registry.setDefaultLabels({ cluster });
    const metrics = new ClusterMetrics(registry);
    this.#clusters.set(cluster, metrics);
    return metrics;
  }

  /** Removes the series of a cluster. */
  removeCluster(cluster: string): void {
    this.#clusters.delete(cluster);
  }

  /** Adds the metrics of the processes and sessions. */
  addTokenState(state: TokenState): void {
    addTokenState(this.#registry, state);
  }

  addLock(lock: { readonly isLocked: boolean }): void {
    addLock(this.#registry, lock);
  }

  addLogState(log: { readonly dropped: number }): void {
    addLogState(this.#registry, log);
  }

  hsmCallDone(operation: string, result: string, seconds: number): void {
    const counted = this.#countedHsm.get(operation, result);
    counted.count.inc();
    counted.seconds.observe(seconds);
  }

  hostEnded(cause: string): void {
    this.#restarts.inc({ cause });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  async text(): Promise<string> {
    const own = await this.#registry.metrics();
    if (this.#clusters.size === 0) return own;
    const texts = [own];
    for (const cluster of this.#clusters.values()) texts.push(await cluster.text());
    return mergeExpositions(texts);
  }
}

function openMetricsRegistry(): Registry<OpenMetricsContentType> {
  const registry = new Registry<OpenMetricsContentType>();
  registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  return registry;
}

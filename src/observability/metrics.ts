// The plugin's metrics for Prometheus: base units, few labels, and key_ids hashed as kube-apiserver's own metrics have
// them, so that both can be joined. Lower layers see only the methods that they call.
import {
  Counter,
  Gauge,
  Histogram,
  Registry,
  collectDefaultMetrics,
  type OpenMetricsContentType,
} from "prom-client";
import type { WorkingSetCounts } from "../working-set/working-set.js";
import { addAuditState, type AuditState } from "./audit-metrics.js";
import { addLock, addLogState, addPluginState, addWorkingSet, type PluginState } from "./scraped-metrics.js";
import { Series } from "./series.js";

const SECONDS_BUCKETS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5,
];

/**
 * Sampling interval of the event loop's delay, in ms: at the default of 10 an idle plugin wakes up 100 times a second.
 */
const LOOP_SAMPLE_MS = 100;

/** Holds the plugin's metrics and records requests, calls and limits in them. */
export class Metrics {
  // OpenMetrics whatever the client accepts: prom-client renames its counters permanently when it writes OpenMetrics.
  readonly #registry = new Registry<OpenMetricsContentType>();
  readonly #requests = new Counter({
    name: "kms_pkcs11_requests_total",
    help: "KMS v2 requests by operation and gRPC status.",
    labelNames: ["operation", "code"],
    registers: [this.#registry],
  });
  readonly #requestSeconds = new Histogram({
    name: "kms_pkcs11_request_seconds",
    help: "Time from the arrival of a KMS v2 request to its answer.",
    labelNames: ["operation", "code"],
    buckets: SECONDS_BUCKETS,
    registers: [this.#registry],
  });
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
  readonly #limits = new Counter({
    name: "kms_pkcs11_limits_total",
    help: "Requests and connections that were ended because their client exceeded a limit, by limit.",
    labelNames: ["limit"],
    registers: [this.#registry],
  });
  readonly #cache = {
    hits: this.#counter("kms_pkcs11_cache_hits_total", "Decrypts answered from the unwrap cache."),
    misses: this.#counter(
      "kms_pkcs11_cache_misses_total",
      "Decrypts that the unwrap cache could not answer.",
    ),
    evictions: this.#counter(
      "kms_pkcs11_cache_evictions_total",
      "Entries that were removed from the full unwrap cache.",
    ),
  };

  readonly #counted = new Series((operation, code) => ({
    count: this.#requests.labels({ operation, code }),
    seconds: this.#requestSeconds.labels({ operation, code }),
  }));
  readonly #countedHsm = new Series((operation, result) => ({
    count: this.#hsmCalls.labels({ operation, result }),
    seconds: this.#hsmCallSeconds.labels({ operation, result }),
  }));

  constructor(version: string) {
    this.#registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
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

  /** Adds the metrics of the HSM and the KEKs, as soon as there is a plugin to read them from. */
  addPluginState(state: PluginState): void {
    addPluginState(this.#registry, state);
  }

  addWorkingSet(read: () => WorkingSetCounts): void {
    addWorkingSet(this.#registry, read);
  }

  addAuditState(audit: AuditState): void {
    addAuditState(this.#registry, audit);
  }

  addLock(lock: { readonly isLocked: boolean }): void {
    addLock(this.#registry, lock);
  }

  addLogState(log: { readonly dropped: number }): void {
    addLogState(this.#registry, log);
  }

  requestDone(operation: string, code: string, seconds: number): void {
    const counted = this.#counted.get(operation, code);
    counted.count.inc();
    counted.seconds.observe(seconds);
  }

  hsmCallDone(operation: string, result: string, seconds: number): void {
    const counted = this.#countedHsm.get(operation, result);
    counted.count.inc();
    counted.seconds.observe(seconds);
  }

  hostEnded(cause: string): void {
    this.#restarts.inc({ cause });
  }

  limitReached(limit: string): void {
    this.#limits.inc({ limit });
  }

  cacheHit(): void {
    this.#cache.hits.inc();
  }

  cacheMiss(): void {
    this.#cache.misses.inc();
  }

  cacheEvicted(): void {
    this.#cache.evictions.inc();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  async text(): Promise<string> {
    return this.#registry.metrics();
  }

  #counter(name: string, help: string): Counter {
    return new Counter({ name, help, registers: [this.#registry] });
  }
}

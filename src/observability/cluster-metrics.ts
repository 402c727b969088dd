// The metrics of one cluster's requests, KEKs, cache and audit log. If the plugin serves several clusters, each has a
// registry of its own, whose series carry the label `cluster` and disappear with the cluster.
import { Counter, Histogram, type Registry, type OpenMetricsContentType } from "prom-client";
import type { WorkingSetCounts } from "../working-set/working-set.js";
import { addAuditState, type AuditState } from "./audit-metrics.js";
import { addProviderState, addWorkingSet, type ProviderState } from "./scraped-metrics.js";
import { SECONDS_BUCKETS, Series } from "./series.js";

/** Records one cluster's requests and limits. */
export class ClusterMetrics {
  readonly #registry: Registry<OpenMetricsContentType>;
  readonly #requests: Counter;
  readonly #requestSeconds: Histogram;
  readonly #limits: Counter;
  readonly #cacheHits: Counter;
  readonly #cacheMisses: Counter;
  readonly #cacheEvictions: Counter;
  readonly #counted: Series;

  /** @param registry shared with other metrics if the plugin serves one cluster */
  constructor(registry: Registry<OpenMetricsContentType>) {
    this.#registry = registry;
    const counter = (name: string, help: string, labelNames: string[] = []): Counter =>
      new Counter({ name, help, labelNames, registers: [registry] });
    this.#requests = counter("kms_pkcs11_requests_total", "KMS v2 requests by operation and gRPC status.", [
      "operation",
      "code",
    ]);
    this.#requestSeconds = new Histogram({
      name: "kms_pkcs11_request_seconds",
      help: "Time from the arrival of a KMS v2 request to its answer.",
      labelNames: ["operation", "code"],
      buckets: SECONDS_BUCKETS,
      registers: [registry],
    });
    this.#limits = counter(
      "kms_pkcs11_limits_total",
      "Requests and connections that were ended because their client exceeded a limit, by limit.",
      ["limit"],
    );
    this.#cacheHits = counter("kms_pkcs11_cache_hits_total", "Decrypts answered from the unwrap cache.");
    this.#cacheMisses = counter(
      "kms_pkcs11_cache_misses_total",
      "Decrypts that the unwrap cache could not answer.",
    );
    this.#cacheEvictions = counter(
      "kms_pkcs11_cache_evictions_total",
      "Entries that were removed from the full unwrap cache.",
    );
    this.#counted = new Series((operation, code) => ({
      count: this.#requests.labels({ operation, code }),
      seconds: this.#requestSeconds.labels({ operation, code }),
    }));
  }

  /** Adds the metrics of the provider and its KEKs, as soon as there is one to read them from. */
  addProviderState(state: ProviderState): void {
    addProviderState(this.#registry, state);
  }

  addWorkingSet(read: () => WorkingSetCounts): void {
    addWorkingSet(this.#registry, read);
  }

  addAuditState(audit: AuditState): void {
    addAuditState(this.#registry, audit);
  }

  requestDone(operation: string, code: string, seconds: number): void {
    const counted = this.#counted.get(operation, code);
    counted.count.inc();
    counted.seconds.observe(seconds);
  }

  limitReached(limit: string): void {
    this.#limits.inc({ limit });
  }

  cacheHit(): void {
    this.#cacheHits.inc();
  }

  cacheMiss(): void {
    this.#cacheMisses.inc();
  }

  cacheEvicted(): void {
    this.#cacheEvictions.inc();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Returns the metrics in the OpenMetrics text format. */
  async text(): Promise<string> {
    return this.#registry.metrics();
  }
}

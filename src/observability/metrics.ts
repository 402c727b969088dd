// Metrics for Prometheus: base units, few labels, and key_ids in the hashed form of kube-apiserver's own
// metrics, so that the two join. Lower layers see only the methods that they call.
import { createHash } from "node:crypto";
import {
  Counter,
  Gauge,
  Histogram,
  Registry,
  collectDefaultMetrics,
  type OpenMetricsContentType,
} from "prom-client";
import { Series } from "./series.js";

export interface KeyMetric {
  readonly keyId: string;
  readonly state: string;
  /** ISO 8601, or null for a key without an instant. */
  readonly activation: string | null;
}

/** Values that are read when Prometheus asks, not kept up to date in between. */
export interface Gauges {
  readonly hsmUp: () => boolean;
  readonly outageSeconds: () => number;
  readonly graceSeconds: () => number;
  readonly keyringUp: () => boolean;
  readonly readingSeconds: () => number;
  readonly hostResidentBytes: () => number;
  readonly hostCpuSeconds: () => number;
  readonly readyHosts: () => number;
  readonly sessions: () => number;
  readonly queueLength: () => number;
  readonly cacheEntries: () => number;
  readonly localKekUses: () => number;
  readonly keys: () => readonly KeyMetric[];
}

export interface AuditGauges {
  readonly up: boolean;
  readonly buffered: number;
  readonly written: number;
  readonly lost: number;
}

const SECONDS_BUCKETS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5,
];

/** How often the event loop's delay is sampled: at the default of 10 ms an idle plugin wakes up 100 times a second. */
const LOOP_SAMPLE_MS = 100;

export class Metrics {
  // Not by what a request accepts: prom-client renames its counters for good when it writes OpenMetrics.
  readonly #registry = new Registry<OpenMetricsContentType>();
  readonly #requests = new Counter({
    name: "kms_pkcs11_requests_total",
    help: "KMS v2 requests by operation and gRPC status.",
    labelNames: ["operation", "code"],
    registers: [this.#registry],
  });
  readonly #requestSeconds = new Histogram({
    name: "kms_pkcs11_request_seconds",
    help: "Time from a KMS v2 request's arrival to its answer.",
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
    help: "Requests and connections that were ended because their client held too much, by limit.",
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
      "Entries that left the unwrap cache for want of room.",
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
      help: "Always 1; its labels tell the version.",
      labelNames: ["version", "node"],
      registers: [this.#registry],
    });
    build.set({ version, node: process.version }, 1);
  }

  /** Registers the gauges once there is something to read them from. */
  watch(gauges: Gauges): void {
    this.#gauge("kms_pkcs11_hsm_up", "Whether a token host is ready and the last proof succeeded.", () =>
      Number(gauges.hsmUp()),
    );
    this.#gauge(
      "kms_pkcs11_outage_seconds",
      "How long the HSM has been away; 0 while it is there.",
      gauges.outageSeconds,
    );
    this.#gauge(
      "kms_pkcs11_outage_grace_seconds",
      "How long an outage may last before Status tells of it (health.outageGracePeriod).",
      gauges.graceSeconds,
    );
    this.#gauge("kms_pkcs11_keyring_up", "Whether the last reading of the token's keys succeeded.", () =>
      Number(gauges.keyringUp()),
    );
    this.#gauge(
      "kms_pkcs11_keyring_reading_seconds",
      "How long the last reading of the token's keys took.",
      gauges.readingSeconds,
    );
    this.#gauge(
      "kms_pkcs11_token_host_resident_memory_bytes",
      "Resident memory of the token hosts together.",
      gauges.hostResidentBytes,
    );
    this.#readCounter(
      "kms_pkcs11_token_host_cpu_seconds_total",
      "Processor time of the token hosts together, ended ones included.",
      gauges.hostCpuSeconds,
    );
    this.#gauge("kms_pkcs11_token_hosts", "Token hosts that are ready.", gauges.readyHosts);
    this.#gauge("kms_pkcs11_sessions", "Sessions that are open on the token.", gauges.sessions);
    this.#gauge("kms_pkcs11_queue_length", "Requests that wait for a session.", gauges.queueLength);
    this.#gauge("kms_pkcs11_cache_entries", "Plaintexts in the unwrap cache.", gauges.cacheEntries);
    this.#gauge("kms_pkcs11_local_kek_uses", "Encrypts under the current local KEK.", gauges.localKekUses);
    this.#keyGauges(gauges.keys);
  }

  /** Of the audit log, where there is one. */
  watchAudit(audit: AuditGauges): void {
    this.#gauge("kms_pkcs11_audit_up", "Whether the audit log could be written last.", () =>
      Number(audit.up),
    );
    this.#gauge("kms_pkcs11_audit_buffered", "Audit events that wait to be written.", () => audit.buffered);
    this.#readCounter(
      "kms_pkcs11_audit_events_total",
      "Audit events that were written.",
      () => audit.written,
    );
    this.#readCounter(
      "kms_pkcs11_audit_lost_total",
      "Audit events that were lost because the log could not be written.",
      () => audit.lost,
    );
  }

  watchLog(log: { readonly dropped: number }): void {
    this.#readCounter(
      "kms_pkcs11_log_dropped_total",
      "Log lines that were dropped because standard output was not read.",
      () => log.dropped,
    );
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

  /** A counter that is kept elsewhere. */
  #readCounter(name: string, help: string, read: () => number): void {
    new Counter({
      name,
      help,
      registers: [this.#registry],
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }

  #gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.#registry],
      collect() {
        this.set(read());
      },
    });
  }

  #keyGauges(keys: () => readonly KeyMetric[]): void {
    new Gauge({
      name: "kms_pkcs11_key_info",
      help: "Always 1 for each generation of the KEK; state is standby, due (waits for a Status call), active (Status names it) or retired.",
      labelNames: ["key_id_hash", "state"],
      registers: [this.#registry],
      collect() {
        this.reset();
        for (const { keyId, state } of keys()) this.set({ key_id_hash: hashKeyId(keyId), state }, 1);
      },
    });
    new Gauge({
      name: "kms_pkcs11_key_activation_timestamp_seconds",
      help: "Activation instant of each generation that has one.",
      labelNames: ["key_id_hash"],
      registers: [this.#registry],
      collect() {
        this.reset();
        for (const { keyId, activation } of keys()) {
          if (activation !== null) this.set({ key_id_hash: hashKeyId(keyId) }, Date.parse(activation) / 1000);
        }
      },
    });
  }
}

/** As kube-apiserver labels its own metrics (k8s.io/apiserver, envelope/metrics). */
export function hashKeyId(keyId: string): string {
  return `sha256:${createHash("sha256").update(keyId).digest("hex")}`;
}

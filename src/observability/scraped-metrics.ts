// Metrics whose values are read when Prometheus asks: the state of the HSM, the KEKs, the working set and the log.
// The caller passes functions that return the values.
import { createHash } from "node:crypto";
import { Gauge } from "prom-client";
import type { WorkingSetCounts } from "../working-set/working-set.js";
import { addGauge, addReadCounter, type OpenMetricsRegistry } from "./read-metrics.js";

/** The facts of one KEK that are metrics. */
export interface KeyMetric {
  readonly keyId: string;
  readonly state: string;
  /** ISO 8601; null for a KEK without an activation instant. */
  readonly activation: string | null;
}

/** Functions that return the state of a provider and its KEKs at this moment. */
export interface ProviderState {
  readonly hsmUp: () => boolean;
  readonly outageSeconds: () => number;
  readonly graceSeconds: () => number;
  readonly heldBack: () => boolean;
  readonly keyringUp: () => boolean;
  readonly readingSeconds: () => number;
  readonly cacheEntries: () => number;
  readonly localKekUses: () => number;
  /** 0 if none is configured. */
  readonly cryptoperiodSeconds: () => number;
  readonly keys: () => readonly KeyMetric[];
}

/** Functions that return what the plugin and its token hosts use at this moment. */
export interface TokenState {
  readonly proportionalBytes: () => number;
  readonly hostResidentBytes: () => number;
  readonly hostCpuSeconds: () => number;
  readonly readyHosts: () => number;
  readonly sessions: () => number;
  readonly queueLength: () => number;
}

/** Registers the metrics of the HSM as one cluster sees it, and of its KEKs. */
export function addProviderState(registry: OpenMetricsRegistry, state: ProviderState): void {
  addHsmState(registry, state);
  const gauge = (name: string, help: string, read: () => number): void => {
    addGauge(registry, { name, help, read });
  };
  gauge("kms_pkcs11_cache_entries", "Plaintexts in the unwrap cache.", state.cacheEntries);
  gauge("kms_pkcs11_local_kek_uses", "Encrypts under the current local KEK.", state.localKekUses);
  gauge(
    "kms_pkcs11_cryptoperiod_seconds",
    "How long a KEK may be active (keys.cryptoperiod); 0 if no limit is configured.",
    state.cryptoperiodSeconds,
  );
  addKeyMetrics(registry, state.keys);
}

function addHsmState(registry: OpenMetricsRegistry, state: ProviderState): void {
  const gauge = (name: string, help: string, read: () => number): void => {
    addGauge(registry, { name, help, read });
  };
  gauge("kms_pkcs11_hsm_up", "Whether a token host is ready and the last proof succeeded.", () =>
    Number(state.hsmUp()),
  );
  gauge(
    "kms_pkcs11_outage_seconds",
    "Duration of the current outage of the HSM; 0 if there is none.",
    state.outageSeconds,
  );
  gauge(
    "kms_pkcs11_outage_grace_seconds",
    "Time that an outage may last before Status reports it (health.outageGracePeriod).",
    state.graceSeconds,
  );
  gauge("kms_pkcs11_keyring_up", "Whether the last reading of the token's KEKs succeeded.", () =>
    Number(state.keyringUp()),
  );
  gauge(
    "kms_pkcs11_keyring_reading_seconds",
    "Duration of the last reading of the token's KEKs.",
    state.readingSeconds,
  );
  gauge(
    "kms_pkcs11_kek_held_back",
    "Whether a KEK is due but not activated: unproven, unrecorded or not approved; Status and /readyz give the reason.",
    () => Number(state.heldBack()),
  );
}

/** Registers the metrics of the plugin's processes: what they use, and how much work waits for them. */
export function addTokenState(registry: OpenMetricsRegistry, state: TokenState): void {
  const gauge = (name: string, help: string, read: () => number): void => {
    addGauge(registry, { name, help, read });
  };
  gauge(
    "kms_pkcs11_token_host_resident_memory_bytes",
    "Resident memory of all token hosts.",
    state.hostResidentBytes,
  );
  gauge(
    "kms_pkcs11_proportional_memory_bytes",
    "Proportional memory (PSS) of the plugin and all token hosts; NaN if the kernel does not report it to the plugin.",
    state.proportionalBytes,
  );
  addReadCounter(registry, {
    name: "kms_pkcs11_token_host_cpu_seconds_total",
    help: "CPU time of all token hosts, including those that have ended.",
    read: state.hostCpuSeconds,
  });
  gauge("kms_pkcs11_token_hosts", "Token hosts that are ready.", state.readyHosts);
  gauge("kms_pkcs11_sessions", "Open sessions on the token.", state.sessions);
  gauge("kms_pkcs11_queue_length", "Requests that wait for a session.", state.queueLength);
}

const WORKING_SET_GAUGES: readonly [keyof WorkingSetCounts, string, string][] = [
  [
    "remembered",
    "working_set_remembered",
    "DEK seeds and local KEKs whose ciphertexts the state directory holds.",
  ],
  ["pending", "working_set_pending", "Entries remembered by an earlier process that are not decrypted yet."],
];
const WORKING_SET_COUNTERS: readonly [keyof WorkingSetCounts, string, string][] = [
  ["prefetched", "working_set_prefetched", "Remembered entries that were decrypted in advance."],
  ["failed", "working_set_failed", "Remembered entries that could not be decrypted."],
  ["used", "working_set_hits", "DEK seeds that were decrypted in advance and then requested."],
  ["renewed", "cache_renewals", "Cached DEK seeds that the HSM decrypted again before they expired."],
  ["renewalsFailed", "cache_renewal_failures", "Attempts to renew a cached DEK seed that failed."],
];

/** Registers the metrics of the working set. */
export function addWorkingSet(registry: OpenMetricsRegistry, read: () => WorkingSetCounts): void {
  for (const [field, name, help] of WORKING_SET_GAUGES) {
    addGauge(registry, { name: `kms_pkcs11_${name}`, help, read: () => read()[field] });
  }
  for (const [field, name, help] of WORKING_SET_COUNTERS) {
    addReadCounter(registry, { name: `kms_pkcs11_${name}_total`, help, read: () => read()[field] });
  }
}

/** Registers the metric of the operator's lock. */
export function addLock(registry: OpenMetricsRegistry, lock: { readonly isLocked: boolean }): void {
  const help = "Whether an operator has locked the plugin (kms-pkcs11 lock).";
  addGauge(registry, { name: "kms_pkcs11_locked", help, read: () => Number(lock.isLocked) });
}

/** Registers the metric of the log's output. */
export function addLogState(registry: OpenMetricsRegistry, log: { readonly dropped: number }): void {
  addReadCounter(registry, {
    name: "kms_pkcs11_log_dropped_total",
    help: "Log lines that were dropped because standard output was not read fast enough.",
    read: () => log.dropped,
  });
}

function addKeyMetrics(registry: OpenMetricsRegistry, keys: () => readonly KeyMetric[]): void {
  new Gauge({
    name: "kms_pkcs11_key_info",
    help: "Always 1 for each generation of the KEK; state is standby, due (not yet published), active or retired.",
    labelNames: ["key_id_hash", "state"],
    registers: [registry],
    collect() {
      this.reset();
      for (const { keyId, state } of keys()) this.set({ key_id_hash: hashKeyId(keyId), state }, 1);
    },
  });
  new Gauge({
    name: "kms_pkcs11_key_activation_timestamp_seconds",
    help: "Activation instant of each generation that has one.",
    labelNames: ["key_id_hash"],
    registers: [registry],
    collect() {
      this.reset();
      for (const { keyId, activation } of keys()) {
        if (activation !== null) this.set({ key_id_hash: hashKeyId(keyId) }, Date.parse(activation) / 1000);
      }
    },
  });
}

/** Returns a key_id as kube-apiserver labels its own metrics (k8s.io/apiserver, envelope/metrics). */
export function hashKeyId(keyId: string): string {
  return `sha256:${createHash("sha256").update(keyId).digest("hex")}`;
}

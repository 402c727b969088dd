// The metrics: their names, labels and values.

import { createHash } from "node:crypto";

import { expect, it } from "vitest";

import { Metrics } from "../../src/observability/metrics.js";
import { hashKeyId } from "../../src/observability/scraped-metrics.js";

/** Dashboards and alerts depend on these names. */
const NAMES = [
  "kms_pkcs11_build_info",
  "kms_pkcs11_cache_entries",
  "kms_pkcs11_cache_evictions_total",
  "kms_pkcs11_cache_hits_total",
  "kms_pkcs11_cache_misses_total",
  "kms_pkcs11_cryptoperiod_seconds",
  "kms_pkcs11_hsm_call_seconds",
  "kms_pkcs11_hsm_calls_total",
  "kms_pkcs11_hsm_up",
  "kms_pkcs11_kek_held_back",
  "kms_pkcs11_key_activation_timestamp_seconds",
  "kms_pkcs11_key_info",
  "kms_pkcs11_keyring_reading_seconds",
  "kms_pkcs11_keyring_up",
  "kms_pkcs11_limits_total",
  "kms_pkcs11_local_kek_uses",
  "kms_pkcs11_outage_grace_seconds",
  "kms_pkcs11_outage_seconds",
  "kms_pkcs11_proportional_memory_bytes",
  "kms_pkcs11_queue_length",
  "kms_pkcs11_request_seconds",
  "kms_pkcs11_requests_total",
  "kms_pkcs11_sessions",
  "kms_pkcs11_token_host_cpu_seconds_total",
  "kms_pkcs11_token_host_resident_memory_bytes",
  "kms_pkcs11_token_host_restarts_total",
  "kms_pkcs11_token_hosts",
];

it("metrics keep their names, labels and values", async () => {
  const metrics = new Metrics("1.2.3");
  metrics.addTokenState({
    proportionalBytes: () => 9e7,
    hostResidentBytes: () => 5e7,
    hostCpuSeconds: () => 1.5,
    readyHosts: () => 2,
    sessions: () => 32,
    queueLength: () => 7,
  });
  const cluster = metrics.ofCluster();
  cluster.addProviderState({
    hsmUp: () => true,
    outageSeconds: () => 0.5,
    graceSeconds: () => 600,
    heldBack: () => false,
    keyringUp: () => true,
    readingSeconds: () => 0.5,
    cacheEntries: () => 3,
    localKekUses: () => 4,
    cryptoperiodSeconds: () => 7776000,
    keys: () => [
      { keyId: "id-one", state: "standby", activation: "2026-11-21T10:00:00.000Z" },
      { keyId: "id-two", state: "active", activation: null },
    ],
  });
  cluster.requestDone("Decrypt", "NOT_FOUND", 0.002);
  metrics.hsmCallDone("encrypt", "ok", 0.003);
  metrics.hostEnded("hang");
  cluster.cacheHit();
  cluster.cacheMiss();
  cluster.cacheEvicted();
  const text = await metrics.text();
  expect(metrics.contentType).toMatch(/^application\/openmetrics-text/);
  expect(text).toMatch(/\n# EOF\n$/);
  const names = [...text.matchAll(/^# TYPE (kms_pkcs11_\S+) (\w+)/gm)].map(([, name = "", type]) =>
    type === "counter" ? `${name}_total` : name,
  );
  expect(names.filter((name) => !/^kms_pkcs11_(process|nodejs)_/.test(name)).sort()).toEqual(NAMES);
  expect(text).toContain(`kms_pkcs11_build_info{version="1.2.3",node="${process.version}"} 1`);
  expect(text).toContain('kms_pkcs11_requests_total{operation="Decrypt",code="NOT_FOUND"} 1');
  expect(text).toContain('kms_pkcs11_hsm_calls_total{operation="encrypt",result="ok"} 1');
  expect(text).toContain('kms_pkcs11_token_host_restarts_total{cause="hang"} 1');
  expect(text).toContain('kms_pkcs11_request_seconds_count{operation="Decrypt",code="NOT_FOUND"} 1');
  expect(text).toContain('kms_pkcs11_hsm_call_seconds_count{operation="encrypt",result="ok"} 1');
  expect(text).toContain("kms_pkcs11_hsm_up 1");
  expect(text).toContain("kms_pkcs11_outage_seconds 0.5");
  expect(text).toContain(`kms_pkcs11_key_info{key_id_hash="${hashKeyId("id-two")}",state="active"} 1`);
  const activation = `kms_pkcs11_key_activation_timestamp_seconds{key_id_hash="${hashKeyId("id-one")}"}`;
  expect(text).toContain(`${activation} ${Date.UTC(2026, 10, 21, 10) / 1000}`);
  expect(text).not.toMatch(/id-(one|two)/);
});

it("key_ids join with kube-apiserver's own metrics", () => {
  expect(hashKeyId("k")).toBe(`sha256:${createHash("sha256").update("k").digest("hex")}`);
});

it("a cluster's own metrics are in the OpenMetrics format, as their content type says", async () => {
  const cluster = new Metrics("1.2.3").ofCluster("tenant-a");
  expect(cluster.contentType).toMatch(/^application\/openmetrics-text/);
  expect(await cluster.text()).toMatch(/\n# EOF\n$/);
});

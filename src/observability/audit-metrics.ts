// Metrics of the audit log and of the sinks that it is sent to.
import { Counter, Gauge } from "prom-client";
import { addGauge, addReadCounter, type OpenMetricsRegistry } from "./read-metrics.js";

/** The state of the audit log that is exported as metrics. */
export interface AuditState {
  readonly up: boolean;
  readonly buffered: number;
  readonly written: number;
  readonly lost: number;
  readonly sinks: readonly AuditSinkState[];
}

/** The state of a sink of the audit log that is exported as metrics. */
export interface AuditSinkState {
  readonly name: string;
  readonly up: boolean;
  readonly lagSeconds: number;
  readonly lines: number;
  readonly missing: number;
}

/** Registers the metrics of the audit log, if there is one. */
export function addAuditState(registry: OpenMetricsRegistry, audit: AuditState): void {
  addGauge(registry, {
    name: "kms_pkcs11_audit_up",
    help: "Whether the last write to the audit log succeeded.",
    read: () => Number(audit.up),
  });
  addGauge(registry, {
    name: "kms_pkcs11_audit_buffered",
    help: "Audit events that wait to be written.",
    read: () => audit.buffered,
  });
  addReadCounter(registry, {
    name: "kms_pkcs11_audit_events_total",
    help: "Audit events that were written.",
    read: () => audit.written,
  });
  addReadCounter(registry, {
    name: "kms_pkcs11_audit_lost_total",
    help: "Audit events that were lost because the audit log could not be written.",
    read: () => audit.lost,
  });
  addAuditSinks(registry, () => audit.sinks);
}

const SINK_GAUGES: readonly [string, string, (sink: AuditSinkState) => number][] = [
  [
    "kms_pkcs11_audit_sink_up",
    "Whether the last attempt to send the audit log to this sink succeeded.",
    ({ up }) => Number(up),
  ],
  [
    "kms_pkcs11_audit_sink_lag_seconds",
    "Age of the oldest line of the audit log that this sink has not confirmed; 0 if there is none.",
    ({ lagSeconds }) => lagSeconds,
  ],
];
const SINK_COUNTERS: readonly [string, string, (sink: AuditSinkState) => number][] = [
  [
    "kms_pkcs11_audit_sink_lines_total",
    "Lines of the audit log that were sent to this sink, repetitions included.",
    ({ lines }) => lines,
  ],
  [
    "kms_pkcs11_audit_sink_missed_total",
    "Lines that rotation removed from the audit log before they were sent to this sink.",
    ({ missing }) => missing,
  ],
];

function addAuditSinks(registry: OpenMetricsRegistry, sinks: () => readonly AuditSinkState[]): void {
  const labelNames = ["sink"];
  for (const [name, help, read] of SINK_GAUGES) {
    new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        this.reset();
        for (const sink of sinks()) this.set({ sink: sink.name }, read(sink));
      },
    });
  }
  for (const [name, help, read] of SINK_COUNTERS) {
    new Counter({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        this.reset();
        for (const sink of sinks()) this.inc({ sink: sink.name }, read(sink));
      },
    });
  }
}

// Registers metrics without labels whose values are kept elsewhere and read when Prometheus asks.
import { Counter, Gauge, type OpenMetricsContentType, type Registry } from "prom-client";

export type OpenMetricsRegistry = Registry<OpenMetricsContentType>;

/** A metric without labels whose value is kept elsewhere. */
interface ScrapedMetric {
  readonly name: string;
  readonly help: string;
  readonly read: () => number;
}

/** Registers a counter. */
export function addReadCounter(registry: OpenMetricsRegistry, { name, help, read }: ScrapedMetric): void {
  new Counter({
    name,
    help,
    registers: [registry],
    collect() {
      this.reset();
      this.inc(read());
    },
  });
}

/** Registers a gauge. */
export function addGauge(registry: OpenMetricsRegistry, { name, help, read }: ScrapedMetric): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    collect() {
      this.set(read());
    },
  });
}

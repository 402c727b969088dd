// The content of the HTTP endpoints of a plugin that serves several clusters: what concerns all of them, and what each has
// for itself.
import type { HttpClusters, HttpContent, Readiness } from "../observability/http.js";
import type { Metrics } from "../observability/metrics.js";
import type { Configuration } from "../config/settings.js";
import type { KmsError } from "../errors.js";
import type { ClusterMetrics } from "../observability/cluster-metrics.js";
import type { OpenCluster } from "./cluster.js";
import { httpContent, readinessOf, type PluginSockets } from "./http-content.js";
import type { Service } from "./service.js";

/** A cluster whose content is served. */
export interface ShownCluster {
  readonly name: string;
  readonly configuration: Configuration;
  readonly metrics: ClusterMetrics;
  readonly opened: OpenCluster;
}

/** The clusters of the plugin. */
export interface ShownClusters {
  readonly served: readonly ShownCluster[];
  /** Why clusters are not served, by their names. */
  readonly failed: ReadonlyMap<string, KmsError>;
  readonly get: (name: string) => ShownCluster | undefined;
}

/** Returns the content of the endpoints. */
export function clustersContent(
  clusters: ShownClusters,
  metrics: Metrics,
): Pick<Service, "content" | "clusters"> {
  return {
    content: (sockets): HttpContent => ({
      readiness: () => readinessOfAll(clusters, sockets),
      metrics: () => metrics.text(),
      metricsType: metrics.contentType,
    }),
    clusters: (sockets) => contentOfEach(clusters, sockets),
  };
}

/** Ready if every cluster is; each finding has the cluster's name in front. */
function readinessOfAll(clusters: ShownClusters, sockets: PluginSockets): Readiness {
  const all = clusters.served
    .map((cluster) => ({ name: cluster.name, ...readinessOfOne(cluster, sockets) }))
    .filter(({ ready, lines }) => !ready || lines.length > 1);
  const failed = [...clusters.failed].map(([name, { message }]) => `${name}: is not served: ${message}`);
  const findings = all.flatMap(({ name, lines }) => lines.map((line) => `${name}: ${line}`));
  const ready = failed.length === 0 && all.every((one) => one.ready);
  const count = clusters.served.length + failed.length;
  return { ready, lines: [...(ready ? [`${count} clusters are ready`] : []), ...failed, ...findings] };
}

function readinessOfOne({ configuration, opened }: ShownCluster, sockets: PluginSockets): Readiness {
  const { server, running } = opened;
  return readinessOf(running, { ...sockets, server }, configuration.settings.cryptoperiodMs);
}

function contentOfEach(clusters: ShownClusters, sockets: PluginSockets): HttpClusters {
  const made = new WeakMap<ShownCluster, HttpContent>();
  return {
    names: () => [...clusters.served.map(({ name }) => name), ...clusters.failed.keys()],
    content: (name) => {
      const cluster = clusters.get(name);
      if (cluster === undefined) return undefined;
      const { configuration, opened, metrics } = cluster;
      const content =
        made.get(cluster) ??
        httpContent(configuration.settings, opened.running, { ...sockets, server: opened.server }, metrics);
      made.set(cluster, content);
      return content;
    },
  };
}

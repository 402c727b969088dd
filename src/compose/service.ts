// What the plugin serves, as the composition root sees it, and its construction for a plugin without `clusters`.
import type { Configuration } from "../config/settings.js";
import { KmsError } from "../errors.js";
import { requireTrustedPaths } from "../config/trusted-paths.js";
import type { AuditEvent } from "../audit/line.js";
import type { HsmObserver } from "../hsm/hosts/hsm-observer.js";
import type { TokenHsm } from "../hsm/token-hsm.js";
import type { HttpClusters, HttpContent } from "../observability/http.js";
import type { Metrics } from "../observability/metrics.js";
import type { Tracing } from "../observability/tracing.js";
import type { Closers } from "./closers.js";
import { openCluster } from "./cluster.js";
import { httpContent, type PluginSockets } from "./http-content.js";
import { Reloader, type ReloadableParts } from "./reload.js";
import { openTokens, type LockedToken } from "./tokens.js";

/** Loads the configuration of every cluster, or the only one. @throws KmsError CONFIG_INVALID */
export type LoadAll = () => readonly Configuration[];

/** What a service is constructed with. */
export interface ServiceStart {
  /** With the PINs. */
  readonly env: NodeJS.ProcessEnv;
  /** That of token hosts, before PINs are removed. */
  readonly hostEnv: NodeJS.ProcessEnv;
  readonly log: ReloadableParts["log"];
  readonly closers: Closers;
  readonly observer: HsmObserver;
}

/** The tokens of a service, which is not open yet. Later, a reload may add and remove some. */
export interface PreparedService {
  readonly tokens: readonly TokenHsm[];
  readonly locked: readonly LockedToken[];
  /** Binds the sockets. @throws KmsError SOCKET_UNUSABLE */
  readonly open: (metrics: Metrics, tracing: Tracing | undefined) => Promise<Service>;
}

/** What is served: one cluster, or several. */
export interface Service {
  /** Records an event in every audit log. */
  readonly record: (event: AuditEvent) => void;
  /** Zeroes seeds and local KEKs. */
  readonly forgetSeeds: () => void;
  /** Returns the content of the HTTP endpoints. */
  readonly content: (sockets: PluginSockets) => HttpContent;
  /** Returns the content that each cluster has for itself; absent without clusters. */
  readonly clusters?: (sockets: PluginSockets) => HttpClusters;
  /** Starts the background work. */
  readonly begin: () => void;
  /** Applies a changed configuration. Never throws. */
  readonly reload: (load: LoadAll) => Promise<void>;
}

/** Constructs the tokens of a plugin without `clusters`. @throws KmsError CONFIG_INVALID for a path that is not trusted */
export function prepareOnly(configuration: Configuration, start: ServiceStart): PreparedService {
  const { settings } = configuration;
  const { log, closers, observer, hostEnv } = start;
  requireTrustedPaths(settings, { isCommand: false });
  const hsm = openTokens(settings, observer, log, hostEnv);
  return {
    tokens: hsm.tokens,
    locked: hsm.locked,
    open: async (metrics, tracing) => {
      const own = metrics.ofCluster();
      const cluster = await openCluster({ settings, log, closers, hsm, metrics: own, tracing });
      const { running } = cluster;
      let reloader: Reloader | undefined;
      return {
        record: cluster.record,
        forgetSeeds: () => {
          running.forgetSeeds();
        },
        content: (sockets) => httpContent(settings, running, { ...sockets, server: cluster.server }, metrics),
        begin: () => {
          reloader = new Reloader(configuration, cluster.begin());
        },
        reload: (load) => {
          reloader?.reload(() => onlyOne(load()));
          return Promise.resolve();
        },
      };
    },
  };
}

function onlyOne(configurations: readonly Configuration[]): Configuration {
  const [only] = configurations;
  if (only !== undefined && only.settings.cluster === undefined) return only;
  throw new KmsError(
    "CONFIG_INVALID",
    "clusters: take effect after a restart, since the plugin serves none now",
  );
}

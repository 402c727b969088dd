// The clusters of one plugin: opens them, and adds and removes some when the configuration is reloaded, without touching
// the others. A cluster that cannot be opened is reported and tried again; it does not keep the others from being served.
import { warningsOf } from "../config/load.js";
import type { Configuration, Settings } from "../config/settings.js";
import { requireTrustedPaths } from "../config/trusted-paths.js";
import type { AuditEvent } from "../audit/line.js";
import { KmsError } from "../errors.js";
import type { Metrics } from "../observability/metrics.js";
import type { Tracing } from "../observability/tracing.js";
import { Closers } from "./closers.js";
import { openCluster } from "./cluster.js";
import { clustersContent, type ShownCluster, type ShownClusters } from "./clusters-content.js";
import { changesOf } from "./cluster-changes.js";
import { ClusterTokens, environmentOfHosts } from "./cluster-tokens.js";
import { Reloader, type ReloadableParts } from "./reload.js";
import type { LoadAll, PreparedService, ServiceStart } from "./service.js";

/** How long token hosts that no cluster uses any more may take to log out, in ms. */
const HSM_STOP_MS = 1_000;
/** Interval at which a cluster that cannot be opened is tried again, in ms. */
const RETRY_MS = 15_000;

/** A cluster that is served. */
interface ServedCluster extends ShownCluster {
  readonly log: ReloadableParts["log"];
  readonly closers: Closers;
  reloader: Reloader | undefined;
}

/** Constructs the tokens of several clusters. */
export function prepareClusters(
  configurations: readonly Configuration[],
  start: ServiceStart,
): PreparedService {
  const hostEnv = environmentOfHosts(
    start.hostEnv,
    configurations.map(({ settings }) => settings),
  );
  const tokens = new ClusterTokens({ ...start, hostEnv });
  // The hosts of these tokens load their packages while the rest of the plugin does.
  tokens.expect(configurations.map(({ settings }) => settings));
  const [first] = configurations;
  if (first !== undefined) tokens.prepare(first.settings);
  return {
    get tokens() {
      return tokens.tokens;
    },
    get locked() {
      return tokens.locked;
    },
    open: async (metrics, tracing) => {
      const clusters = new Clusters({ ...start, tokens, metrics, tracing });
      start.closers.add("clusters", (isGraceful) => clusters.stop(isGraceful));
      await clusters.openAll(configurations);
      return {
        record: (event) => {
          clusters.record(event);
        },
        forgetSeeds: () => {
          clusters.forgetSeeds();
        },
        ...clustersContent(clusters, metrics),
        begin: () => {
          clusters.begin();
        },
        reload: (load) => clusters.reload(load),
      };
    },
  };
}

interface ClustersOptions extends ServiceStart {
  readonly tokens: ClusterTokens;
  readonly metrics: Metrics;
  readonly tracing: Tracing | undefined;
}

/** Holds the clusters that are served, and those that cannot be. */
class Clusters implements ShownClusters {
  readonly #options: ClustersOptions;
  readonly #served = new Map<string, ServedCluster>();
  readonly #failed = new Map<string, KmsError>();
  /** As last loaded, whether or not each of them is served. */
  #wanted: readonly Configuration[] = [];
  #isRunning = false;
  #retry: NodeJS.Timeout | undefined;
  /** Changes of the clusters are made one after another. */
  #changes: Promise<void> = Promise.resolve();

  constructor(options: ClustersOptions) {
    this.#options = options;
  }

  /** Those that are served, in the order in which they were opened. */
  get served(): readonly ServedCluster[] {
    return [...this.#served.values()];
  }

  readonly get = (name: string): ServedCluster | undefined => this.#served.get(name);

  /** Why clusters are not served, by their names. */
  get failed(): ReadonlyMap<string, KmsError> {
    return this.#failed;
  }

  record(event: AuditEvent): void {
    for (const { opened } of this.served) opened.record(event);
  }

  forgetSeeds(): void {
    for (const { opened } of this.served) opened.running.forgetSeeds();
  }

  /** Opens all clusters. @throws KmsError if none can be opened */
  async openAll(configurations: readonly Configuration[]): Promise<void> {
    this.#wanted = configurations;
    for (const configuration of configurations) {
      await this.#open(configuration);
      // Now it is certain that this plugin serves. The token hosts log in while the other clusters' sockets are bound.
      if (this.#served.size > 0) this.#options.tokens.begin();
    }
    const [error] = this.#failed.values();
    if (this.#served.size === 0 && error !== undefined) throw error;
  }

  /** Starts the background work of all clusters. */
  begin(): void {
    this.#isRunning = true;
    this.#options.tokens.begin();
    for (const cluster of this.served) beginOne(cluster);
    this.#retry = setInterval(() => {
      if (this.#failed.size > 0) void this.#change(() => this.#openMissing());
    }, RETRY_MS).unref();
  }

  /** Adds, changes and removes clusters. An invalid configuration changes nothing. Never throws. */
  reload(load: LoadAll): Promise<void> {
    return this.#change(async () => {
      const { log } = this.#options;
      try {
        const next = load();
        if (next.some(({ settings }) => settings.cluster === undefined)) {
          throw new KmsError("CONFIG_INVALID", "clusters: are missing; serving one cluster takes a restart");
        }
        for (const warning of warningsOf(next)) log.warn({}, warning);
        await this.#apply(next);
      } catch (error) {
        const reason = KmsError.from(error).message;
        log.error({ reason }, "configuration not reloaded: the previous settings stay in force");
      }
    });
  }

  /** Closes all clusters. */
  async stop(isGraceful: boolean): Promise<void> {
    clearInterval(this.#retry);
    this.#isRunning = false;
    await this.#changes;
    await Promise.all(this.served.map((cluster) => this.#closeParts(cluster, isGraceful)));
  }

  #change(change: () => Promise<void>): Promise<void> {
    this.#changes = this.#changes.then(change);
    return this.#changes;
  }

  async #apply(next: readonly Configuration[]): Promise<void> {
    const { log } = this.#options;
    const changes = changesOf(this.served, next);
    this.#wanted = next;
    const wanted = new Set(next.map(nameOf));
    for (const name of this.#failed.keys()) if (!wanted.has(name)) this.#failed.delete(name);
    await Promise.all(changes.ended.map((cluster) => this.#close(cluster)));
    this.#options.tokens.keepOnly(wanted);
    const [firstKept] = changes.kept;
    for (const { cluster, configuration } of changes.kept) {
      cluster.reloader?.apply(configuration, cluster === firstKept?.cluster ? "all" : "own");
    }
    const level = next[0]?.settings.logLevel;
    if (level !== undefined) log.level = level;
    await this.#openMissing();
    log.info({ served: this.#served.size, failed: this.#failed.size }, "clusters reloaded");
  }

  async #openMissing(): Promise<void> {
    const missing = this.#wanted.filter((one) => !this.#served.has(nameOf(one)));
    this.#options.tokens.expect(missing.map(({ settings }) => settings));
    for (const configuration of missing) {
      if (!this.#isRunning) return;
      await this.#open(configuration);
    }
  }

  /** Opens one cluster, or records why it cannot be opened. */
  async #open(configuration: Configuration): Promise<void> {
    const { tokens, metrics, tracing } = this.#options;
    const { settings } = configuration;
    const name = nameOf(configuration);
    const closers = new Closers();
    const log = this.#logFor(settings);
    try {
      requireTrustedPaths(settings, { isCommand: false });
      const own = metrics.ofCluster(name);
      const hsm = tokens.open(settings);
      const opened = await openCluster({ settings, log, closers, hsm, metrics: own, tracing });
      const cluster = { name, configuration, log, closers, metrics: own, opened, reloader: undefined };
      this.#served.set(name, cluster);
      this.#failed.delete(name);
      if (this.#isRunning) beginOne(cluster);
    } catch (error) {
      const failure = KmsError.from(error);
      if (this.#failed.get(name)?.message !== failure.message) {
        log.error({ err: failure }, "the cluster is not served");
      }
      this.#failed.set(name, failure);
      await closers.closeAll(false, () => undefined);
      metrics.removeCluster(name);
      await tokens.close(name, HSM_STOP_MS);
    }
  }

  async #close(cluster: ServedCluster): Promise<void> {
    const { tokens, metrics } = this.#options;
    const { name, log } = cluster;
    this.#served.delete(name);
    await this.#closeParts(cluster, true);
    await tokens.close(name, HSM_STOP_MS);
    metrics.removeCluster(name);
    log.info({}, "the cluster is no longer served");
  }

  async #closeParts({ closers, log }: ServedCluster, isGraceful: boolean): Promise<void> {
    await closers.closeAll(isGraceful, (part, error) => {
      log.error({ part, err: error }, "a part of the cluster could not be closed");
    });
  }

  #logFor({ cluster }: Settings): ReloadableParts["log"] {
    return this.#options.log.child({ cluster: cluster?.name });
  }
}

function beginOne(cluster: ServedCluster): void {
  cluster.reloader = new Reloader(cluster.configuration, cluster.opened.begin());
}

function nameOf({ settings }: Configuration): string {
  return settings.cluster?.name ?? "";
}

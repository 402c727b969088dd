// Which clusters a changed configuration ends, and which it keeps. A cluster whose own settings cannot change while it is
// served is ended and opened again.
import { changedSettings, comparableSettings } from "../config/changes.js";
import type { Configuration } from "../config/settings.js";

/** A cluster that is served, with the configuration that it was opened with. */
interface Served {
  readonly name: string;
  readonly configuration: Configuration;
}

/** What happens to the clusters that are served. */
export interface ClusterChanges<Cluster> {
  /** Removed, or to be opened again. */
  readonly ended: readonly Cluster[];
  readonly kept: readonly { readonly cluster: Cluster; readonly configuration: Configuration }[];
}

/** Settings of a cluster that are fixed when it is opened. */
const FIXED = /^(socket|keys|failover)[.[]|^stateDir$/;
/** Except the PIN's source, which is the token's. */
const PIN = /(^|\.)pin$/;

/** Compares the clusters that are served with the wanted ones. */
export function changesOf<Cluster extends Served>(
  served: readonly Cluster[],
  wanted: readonly Configuration[],
): ClusterChanges<Cluster> {
  const ended: Cluster[] = [];
  const kept: { cluster: Cluster; configuration: Configuration }[] = [];
  for (const cluster of served) {
    const configuration = wanted.find(({ settings }) => settings.cluster?.name === cluster.name);
    if (configuration === undefined || mustReopen(cluster.configuration, configuration)) ended.push(cluster);
    else kept.push({ cluster, configuration });
  }
  return { ended, kept };
}

function mustReopen(before: Configuration, after: Configuration): boolean {
  if (before.settings.cluster?.requests !== after.settings.cluster?.requests) return true;
  return changedSettings(comparableSettings(before), comparableSettings(after)).some(
    (setting) => FIXED.test(setting) && !PIN.test(setting),
  );
}

// Connects the working set with the provider whose seeds it keeps warm, with the state directory and the metrics.
import type { Settings } from "../config/settings.js";
import type { Log } from "../log.js";
import type { ClusterMetrics } from "../observability/cluster-metrics.js";
import type { RunningProvider } from "../provider/running-provider.js";
import { WorkingSetFile } from "../working-set/file.js";
import { WorkingSet } from "../working-set/working-set.js";
import type { Closers } from "./closers.js";

/** What the working set is connected with. */
export interface WorkingSetSurroundings {
  readonly settings: Settings;
  readonly running: RunningProvider;
  readonly metrics: ClusterMetrics;
  readonly closers: Closers;
  readonly log: Log;
}

/** Starts the working set, which reads what an earlier process remembered. Returns undefined if the cache is off. */
export function startWorkingSet({
  settings,
  running,
  metrics,
  closers,
  log,
}: WorkingSetSurroundings): WorkingSet | undefined {
  const { cache, stateDir, hsm } = settings;
  if (cache.entries === 0) return undefined;
  const workingSet = new WorkingSet({
    seeds: running.knownSeeds,
    store: cache.remember && stateDir !== undefined ? new WorkingSetFile(stateDir, log) : undefined,
    ttlMs: cache.ttlMs,
    isAway: () => running.outage.reason !== undefined,
    most: hsm.sessions,
    log,
  });
  metrics.addWorkingSet(() => workingSet.counts);
  running.follow(workingSet);
  // Closed before the provider, which clears the cache that is saved here.
  closers.add("working set", () => workingSet.close());
  return workingSet;
}

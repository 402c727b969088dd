// Constructs the provider from the settings: its options for the plugin, and a read-only provider for commands.
import type { Settings } from "../config/settings.js";
import type { Hsm } from "../hsm/port.js";
import type { Log } from "../log.js";
import type { SchedulePolicy } from "../provider/generations.js";
import type { KeyMemoryStore } from "../provider/key-memory.js";
import { FilePublishedMemory, NO_PUBLISHED_MEMORY, readOnly } from "../provider/published-memory.js";
import { RunningProvider, type ProviderOptions } from "../provider/running-provider.js";
import type { CacheObserver } from "../provider/unwrap-cache-options.js";

const UNOBSERVED = { cacheHit: () => undefined, cacheMiss: () => undefined, cacheEvicted: () => undefined };

/** Returns how the settings interpret the labels and attributes of keys on the token. */
export function schedulePolicy(settings: Settings): SchedulePolicy {
  const { objectName, pinnedKey, allowUnprotected } = settings;
  return { objectName, allowUnprotected, ...(pinnedKey !== undefined && { pinned: pinnedKey }) };
}

/** Constructs a provider for a single command: it has no background work, and never writes the state directory. */
export function openProvider(settings: Settings, hsm: Hsm, log: Log): RunningProvider {
  const options = providerOptions(settings, hsm, UNOBSERVED, log);
  return new RunningProvider({ ...options, memory: readOnly(options.memory), readsOnce: true });
}

/** Returns where a node's memory of its answers is stored. */
export function memoryOf({ stateDir }: Settings): KeyMemoryStore {
  return stateDir === undefined ? NO_PUBLISHED_MEMORY : new FilePublishedMemory(stateDir);
}

/** Returns the provider's options, without reloads of the token's library. */
export function providerOptions(
  settings: Settings,
  hsm: Hsm,
  observer: CacheObserver,
  log: Log,
): ProviderOptions {
  const { health, mode, mechanism, localKek, refreshIntervalMs } = settings;
  const { entries, ttlMs, outageTtlMs } = settings.cache;
  return {
    hsm,
    requestTimeoutMs: settings.hsm.requestTimeoutMs,
    mode,
    mechanism,
    localKek,
    // A round reads and proves: the shorter of the two intervals serves both.
    intervalMs: Math.min(refreshIntervalMs, health.proofIntervalMs),
    policy: schedulePolicy(settings),
    outage: { gracePeriodMs: health.outageGracePeriodMs, onHsmLoss: health.onHsmLoss },
    cache: { entries, ttlMs, outageTtlMs, observer },
    memory: memoryOf(settings),
    log,
  };
}

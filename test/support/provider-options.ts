// The options of a provider in the process of a test: those that a test does not care about, and what it replaces.

import type { Hsm } from "../../src/hsm/port.js";
import { NO_PUBLISHED_MEMORY } from "../../src/provider/published-memory.js";
import type { ProviderOptions } from "../../src/provider/running-provider.js";
import { SILENT } from "./fake-hsm.js";

const UNOBSERVED: ProviderOptions["cache"]["observer"] = {
  cacheHit: () => undefined,
  cacheMiss: () => undefined,
  cacheEvicted: () => undefined,
};

/** Returns options for mode direct, with a small cache and rare background checks. */
export function providerOptions(
  hsm: Hsm,
  {
    cache,
    ...others
  }: Partial<Omit<ProviderOptions, "cache">> & { cache?: Partial<ProviderOptions["cache"]> } = {},
): ProviderOptions {
  return {
    hsm,
    mode: "direct",
    mechanism: "auto",
    policy: { objectName: "kms-kek", allowUnprotected: [] },
    intervalMs: 60_000,
    requestTimeoutMs: 100,
    outage: { gracePeriodMs: 60_000, onHsmLoss: "stopWrites" },
    cache: { entries: 10, ttlMs: 60_000, observer: UNOBSERVED, ...cache },
    localKek: { maxAgeMs: 60_000, maxUses: 100 },
    memory: NO_PUBLISHED_MEMORY,
    log: SILENT,
    ...others,
  };
}

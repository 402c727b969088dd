// Derives the settings from a checked document.
import { auditOf } from "./audit-settings.js";
import { parseNodeAddresses } from "./node-address.js";
import type { Document } from "./schema.js";
import type { Settings } from "./settings.js";
import type { TokenDraft } from "./tokens.js";
import type { ValidParts } from "./valid-parts.js";

/** Returns the valid settings of every token. */
export function draftsOf({
  keys,
  module = {},
  pin = {},
  login = {},
  admin = {},
  failover,
}: ValidParts): TokenDraft[] {
  return [{ uri: keys?.uri, module, pin, login, admin }, ...(failover ?? [])];
}

function cacheOf({ ttl, outageTtl, ...others }: Document["cache"]): Settings["cache"] {
  return { ...others, ttlMs: ttl, outageTtlMs: outageTtl };
}

function hsmOf({ requestTimeout, startTimeout, ...others }: Document["hsm"]): Settings["hsm"] {
  return { ...others, requestTimeoutMs: requestTimeout, startTimeoutMs: startTimeout };
}

function socketOf({ path, mode, group }: Document["socket"]): Pick<Settings, "socket"> {
  if (path === undefined) return {};
  return { socket: { ...path, mode, ...(group !== undefined && { group }) } };
}

/** Returns the settings of a valid document. */
export function settingsOf(
  document: Document,
  tokens: Settings["tokens"],
  warnings: readonly string[],
): Settings {
  const { socket, keys, localKek, cache, hsm, health, http, stateDir } = document;
  const { policy, root } = document.approvals;
  const audit = auditOf(document);
  return {
    ...socketOf(socket),
    objectName: keys.uri.object,
    tokens,
    ...(keys.active !== undefined && { pinnedKey: keys.active }),
    ...(keys.cryptoperiod !== undefined && { cryptoperiodMs: keys.cryptoperiod }),
    allowUnprotected: keys.allowUnprotected,
    refreshIntervalMs: keys.refreshInterval,
    mode: document.mode,
    mechanism: document.mechanism,
    localKek: { maxAgeMs: localKek.maxAge, maxUses: localKek.maxUses },
    cache: cacheOf(cache),
    hsm: hsmOf(hsm),
    health: {
      outageGracePeriodMs: health.outageGracePeriod,
      onHsmLoss: health.onHsmLoss,
      proofIntervalMs: health.proofInterval,
    },
    ...(http.address !== undefined && { http: http.address }),
    ...(stateDir !== undefined && { stateDir }),
    ...(audit !== undefined && { audit }),
    ...(policy !== undefined && root !== undefined && { approvals: { policy, root } }),
    nodes: parseNodeAddresses(document.nodes, http.address),
    logLevel: document.log.level,
    warnings,
  };
}

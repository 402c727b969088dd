// Applies a changed configuration to a running plugin: what can change while requests are served takes effect at once,
// and everything else is reported. An invalid configuration changes nothing.
import { changedSettings, comparableSettings } from "../config/changes.js";
import type { Configuration, Settings } from "../config/settings.js";
import { requireTrustedPaths } from "../config/trusted-paths.js";
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import type { UnwrapCache } from "../provider/unwrap-cache.js";
import type { WorkingSet } from "../working-set/working-set.js";
import type { PluginAudit } from "./audit.js";
import type { ConfiguredPin } from "./configured-pin.js";

/** The plugin's log, which makes those of its clusters. */
export interface PluginLog extends Log {
  level: string;
  child(fields: object): PluginLog;
}

/** The parts of a running plugin that a reload may change. */
export interface ReloadableParts {
  readonly log: PluginLog;
  readonly cache: UnwrapCache;
  /** Undefined if the cache is off. */
  readonly workingSet: WorkingSet | undefined;
  /** Undefined if no audit log is configured. */
  readonly audit: PluginAudit | undefined;
  /** In the order of the tokens; undefined for a PIN that an operator submits. */
  readonly pins: readonly (ConfiguredPin | undefined)[];
}

/** Whether a changed setting is in force now; "unusable" if it has been reported as such. */
type Outcome = "reloaded" | "restart" | "unusable";

/** Settings that only commands use. */
const FOR_COMMANDS = /(^|\.)admin\.(role|file)$|^audit\.required$|^nodes$/;
const CACHE_BOUNDS = /^cache\.(entries|ttl|outageTtl)$/;
const AUDIT = /^audit\.(file|keyFile|maxMebibytes|keep|syslog\.\w+|ocsf\.file)$/;
const PIN = /^(?:failover\[(\d+)\]\.)?pin$/;

/** Compares each configuration with the settings in force, and applies what can be applied. */
export class Reloader {
  readonly #parts: ReloadableParts;
  readonly #inForce: Map<string, string>;

  /** @param started the configuration with which the plugin was started */
  constructor(started: Configuration, parts: ReloadableParts) {
    this.#parts = parts;
    this.#inForce = new Map(comparableSettings(started));
  }

  /** Reloads what can be reloaded, and logs one line for each changed setting. Never throws. */
  reload(load: () => Configuration): void {
    this.#orKeep(() => {
      const next = load();
      for (const warning of next.settings.warnings) this.#parts.log.warn({}, warning);
      this.#applyAll(next, "all");
    });
  }

  /**
   * Applies what can be applied, and logs one line for each changed setting. Never throws.
   * @param reports whether common settings that need a restart are reported here, too, or by another cluster
   */
  apply(next: Configuration, reports: "all" | "own"): void {
    this.#orKeep(() => {
      this.#applyAll(next, reports);
    });
  }

  #orKeep(change: () => void): void {
    try {
      change();
    } catch (error) {
      const reason = KmsError.from(error).message;
      this.#parts.log.error({ reason }, "configuration not reloaded: the previous settings stay in force");
    }
  }

  #applyAll(next: Configuration, reports: "all" | "own"): void {
    const { log } = this.#parts;
    requireTrustedPaths(next.settings, { isCommand: false });
    const values = comparableSettings(next);
    const changed = changedSettings(this.#inForce, values);
    const counts = { reloaded: 0, restart: 0, unusable: 0 };
    for (const setting of changed) {
      const outcome = this.#apply(setting, next.settings, changed);
      counts[outcome]++;
      if (outcome === "restart" && reports === "all") {
        log.warn({ setting }, "a changed setting takes effect after a restart");
      }
      if (outcome !== "reloaded") continue;
      const value = values.get(setting);
      if (value === undefined) this.#inForce.delete(setting);
      else this.#inForce.set(setting, value);
      log.info({ setting }, "a changed setting is in force");
    }
    log.info(counts, "configuration reloaded");
  }

  #apply(setting: string, next: Settings, changed: readonly string[]): Outcome {
    const { audit } = this.#parts;
    if (FOR_COMMANDS.test(setting)) return "reloaded";
    if (setting === "log.level") {
      this.#parts.log.level = next.logLevel;
      return "reloaded";
    }
    if (CACHE_BOUNDS.test(setting)) return this.#applyCache(next.cache);
    if (AUDIT.test(setting) && audit !== undefined && next.audit !== undefined) {
      audit.redirect(next.audit);
      return "reloaded";
    }
    const pin = PIN.exec(setting);
    return pin === null ? "restart" : this.#applyPin(setting, pin[1], next, changed);
  }

  /** Turning the cache on or off needs parts that are made at the start. */
  #applyCache(bounds: Settings["cache"]): Outcome {
    const { cache, workingSet } = this.#parts;
    if (workingSet === undefined || bounds.entries === 0) return "restart";
    cache.setBounds(bounds);
    workingSet.setTtl(bounds.ttlMs);
    return "reloaded";
  }

  /**
   * A socket for the PIN is made at the start, and token hosts that are running may have inherited an environment
   * variable.
   */
  #applyPin(
    setting: string,
    failover: string | undefined,
    next: Settings,
    changed: readonly string[],
  ): Outcome {
    const index = failover === undefined ? 0 : 1 + Number(failover);
    const pin = this.#parts.pins[index];
    const source = next.tokens[index]?.pin;
    const uri = failover === undefined ? "keys.uri" : `failover[${failover}].uri`;
    const isReplaceable = source !== undefined && source.kind !== "unlock" && source.kind !== "env";
    if (pin === undefined || !isReplaceable || changed.includes(uri)) return "restart";
    try {
      pin.replace(source);
      return "reloaded";
    } catch (error) {
      const reason = KmsError.from(error).message;
      this.#parts.log.error({ setting, reason }, "the previous PIN source stays in force");
      return "unusable";
    }
  }
}

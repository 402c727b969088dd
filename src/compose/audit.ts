// The plugin's audit log with its sinks. The sinks read the log's file, so they are started after it, and stop after its last
// line is written; their code is loaded only if one is configured.
import type { AuditEvent } from "../audit/line.js";
import { AuditLog } from "../audit/log.js";
import type { Forwarding } from "../audit/sinks/forwarding.js";
import type { AuditSettings } from "../config/audit-settings.js";
import type { Log } from "../log.js";
import type { AuditSinkState, AuditState } from "../observability/audit-metrics.js";
import { VERSION } from "../version.js";

/** Records events, and sends what is recorded to the configured sinks. */
export class PluginAudit implements AuditState {
  readonly #audit: AuditLog;
  readonly #log: Log;
  #settings: AuditSettings;
  #forwarding: Forwarding | undefined;
  /** The changes of the sinks, one after another. */
  #changes: Promise<void>;

  constructor(settings: AuditSettings, log: Log) {
    this.#audit = new AuditLog(settings, log);
    this.#log = log;
    this.#settings = settings;
    this.#changes = this.#forward(settings);
  }

  get up(): boolean {
    return this.#audit.up;
  }

  get buffered(): number {
    return this.#audit.buffered;
  }

  get written(): number {
    return this.#audit.written;
  }

  get lost(): number {
    return this.#audit.lost;
  }

  get sinks(): readonly AuditSinkState[] {
    return this.#forwarding?.sinks ?? [];
  }

  /** Records an event. Never throws and never waits. */
  record(event: AuditEvent): void {
    this.#audit.record(event);
  }

  /** Uses these settings from the next write on. */
  redirect(settings: AuditSettings): void {
    if (JSON.stringify(settings) === JSON.stringify(this.#settings)) return;
    this.#settings = settings;
    this.#audit.redirect(settings);
    this.#changes = this.#changes.then(() => this.#forward(settings));
  }

  async stop(): Promise<void> {
    await this.#audit.stop();
    await this.#changes;
    await this.#forwarding?.stop();
  }

  /** Never rejects: without sinks, the audit log is still written. */
  async #forward(settings: AuditSettings): Promise<void> {
    try {
      if (this.#forwarding !== undefined) await this.#forwarding.redirect(settings);
      else if (settings.sinks !== undefined) {
        const { Forwarding } = await import("../audit/sinks/forwarding.js");
        this.#forwarding = new Forwarding(settings, VERSION, this.#log);
      }
    } catch (error) {
      this.#log.error({ err: error }, "the audit log is not sent to its sinks");
    }
  }
}

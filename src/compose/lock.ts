// Locks a running plugin on an operator's order: forgets PIN, shares, DEK seeds and local KEKs, and logs the tokens out.
// To kube-apiserver this is an outage of the HSM, until an operator or the custodians unlock the plugin again.
import { setImmediate } from "node:timers/promises";
import type { TokenHsm } from "../hsm/token-hsm.js";
import type { Log } from "../log.js";
import { dropFreedMemory } from "../unused-memory.js";
import type { AuditEvent } from "../audit/line.js";
import { unlockOptions, type LockedToken } from "./tokens.js";

/** How long token hosts may take to close their sessions, in ms; then they are killed, which frees their memory too. */
const LOG_OUT_MS = 500;

/** What is locked. */
export interface PluginLockOptions {
  /** A reload may add and remove tokens. */
  readonly hsm: {
    /** Tokens whose PIN an operator or the custodians submit. */
    readonly locked: readonly Pick<LockedToken, "held" | "source">[];
    readonly tokens: readonly TokenHsm[];
  };
  /** Zeroes seeds and local KEKs, and has the HSM checked at once, so that the outage is noticed. */
  readonly forgetSeeds: () => void;
  readonly log: Log;
  readonly record: (event: AuditEvent) => void;
}

/** The answer to an order to lock. */
export interface LockAnswer {
  readonly locked: boolean;
  readonly message: string;
}

/** Locks the plugin, and remembers since when. */
export class PluginLock {
  readonly #options: PluginLockOptions;
  readonly #clearShares: (() => void)[] = [];
  #since: Date | undefined;
  #inProgress = 0;

  constructor(options: PluginLockOptions) {
    this.#options = options;
  }

  /** Whether an operator has locked the plugin and nobody has unlocked it. */
  get isLocked(): boolean {
    return this.#since !== undefined;
  }

  /** Whether a lock has begun and not ended: a PIN that is taken now would outlast it. */
  get isInProgress(): boolean {
    return this.#inProgress > 0;
  }

  /** Why requests fail, in one line; undefined if the plugin is not locked. */
  get finding(): string | undefined {
    if (this.#since === undefined) return undefined;
    const commands = this.#options.hsm.locked.map(
      ({ source }) => `kms-pkcs11 unlock ${unlockOptions(source)}`,
    );
    return `locked by an operator at ${this.#since.toISOString()}; run ${commands.join(", and ")}`;
  }

  /** Registers shares that a lock zeroes. */
  onLock(clear: () => void): void {
    this.#clearShares.push(clear);
  }

  /** Notes that a token has logged in again. */
  unlocked(): void {
    if (this.#since === undefined) return;
    this.#since = undefined;
    this.#options.record({ event: "unlocked" });
    this.#options.log.info({}, "unlocked again");
  }

  /** Locks the plugin; resolves when PIN, seeds and token hosts are gone. */
  async lock(): Promise<LockAnswer> {
    const { hsm, forgetSeeds, log, record } = this.#options;
    const { locked, tokens } = hsm;
    if (locked.length < tokens.length) {
      return {
        locked: false,
        message:
          "a token takes its PIN from a source that is not pin.unlock: it would log in again at once; stop the plugin instead",
      };
    }
    this.#since ??= new Date();
    record({ event: "locked" });
    log.warn({}, "locked by an operator: PIN, seeds and sessions are dropped");
    this.#inProgress++;
    try {
      for (const clear of this.#clearShares) clear();
      for (const { held } of locked) held.forget();
      forgetSeeds();
      await Promise.all(tokens.map((token) => token.replaceHosts(LOG_OUT_MS)));
      // Calls that were in progress end now; one of them may have brought another seed.
      await setImmediate();
      forgetSeeds();
    } finally {
      this.#inProgress--;
    }
    dropFreedMemory();
    return {
      locked: true,
      message: "locked: PIN, seeds and local KEKs are forgotten, and the tokens are logged out",
    };
  }
}

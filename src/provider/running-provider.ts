// Constructs the provider from its parts, runs its background check, and gives endpoints and metrics read access.
import type { MechanismChoice } from "../hsm/mechanisms.js";
import type { Hsm } from "../hsm/port.js";
import type { Log } from "../log.js";
import type { ActivationGate } from "./activation-gate.js";
import { ActiveKey } from "./active-key.js";
import { Health } from "./health.js";
import { namesOf, type Generation, type Schedule, type SchedulePolicy } from "./generations.js";
import {
  reportKeyring,
  reportKeys,
  type KeyReport,
  type KeyringParts,
  type KeyringReport,
} from "./key-report.js";
import { KeyMemory, type KeyMemoryStore } from "./key-memory.js";
import type { OtherClusters } from "./demanded-readings.js";
import { Keyring } from "./keyring.js";
import { KnownSeeds } from "./known-seeds.js";
import { KekCalls } from "./kek-calls.js";
import { LocalKeks, type LocalKekPolicy } from "./local-kek.js";
import { Outage, type OutagePolicy } from "./outage.js";
import { Prover } from "./prover.js";
import { Provider, type Mode } from "./provider.js";
import { readinessOf, type Readiness } from "./readiness.js";
import { ReloadSchedule, type ReloadOptions } from "./reload-schedule.js";
import { UnwrapCache } from "./unwrap-cache.js";
import type { UnwrapCacheOptions } from "./unwrap-cache-options.js";
import { BackgroundCheck } from "./background-check.js";

/** The settings and dependencies of a provider. */
export interface ProviderOptions {
  readonly hsm: Hsm;
  /** Longest time that a request waits for the HSM, in ms. */
  readonly requestTimeoutMs: number;
  /** Whether to read the token only once; has no effect while the background check runs. */
  readonly readsOnce?: boolean;
  readonly otherClusters?: OtherClusters | undefined;
  /** When to reload libraries although no KEK seems to be removed; undefined: never. */
  readonly reload?: ReloadOptions;
  readonly mode: Mode;
  readonly mechanism: MechanismChoice | "auto";
  readonly policy: SchedulePolicy;
  /** Time between two rounds of the background check, in ms. */
  readonly intervalMs: number;
  /** Maximum age of another cluster's reading that may be used instead of one of its own, in ms; 0 if omitted. */
  readonly maxReadingAgeMs?: number;
  readonly outage: OutagePolicy;
  readonly cache: UnwrapCacheOptions;
  readonly localKek: LocalKekPolicy;
  readonly memory: KeyMemoryStore;
  /** Undefined if every KEK may become active. */
  readonly gate?: ActivationGate | undefined;
  readonly log: Log;
}

/** What is notified of the results of the background check. Its methods return at once. */
export interface CheckFollower {
  /** The token has been read. @param gone key_ids of KEKs that were removed, aliases included */
  keysRead(gone: readonly string[]): void;
  /** A round has ended, whether or not it succeeded. */
  roundDone(): void;
}

/** Runs a provider with its background check. */
export class RunningProvider {
  readonly #hsm: Hsm;
  readonly provider: Provider;
  readonly outage: Outage;
  readonly cache: UnwrapCache;
  readonly localKeks: LocalKeks;
  readonly knownSeeds: KnownSeeds;
  readonly #mode: Mode;
  readonly #keyring: Keyring;
  readonly #prover: Prover;
  readonly #active: ActiveKey;
  readonly #memory: KeyMemory;
  readonly #check: BackgroundCheck;
  readonly #gate: ActivationGate | undefined;
  readonly #stopped = new AbortController();
  #follower: CheckFollower | undefined;

  constructor(options: ProviderOptions) {
    const { hsm, mode, log, gate } = options;
    this.#hsm = hsm;
    this.#gate = gate;
    this.#mode = mode;
    const clocks = { now: () => Date.now(), uptime: () => performance.now() };
    const memory = new KeyMemory({ store: options.memory, log, ...clocks });
    this.#memory = memory;
    this.cache = new UnwrapCache({ ...options.cache, lastAwayAt: () => this.outage.lastAwayAt });
    this.#prover = new Prover(hsm, options.mechanism, log);
    const onHsmTrouble = (): void => {
      this.#check.requestRound();
    };
    const calls = new KekCalls({ hsm, prover: this.#prover, onHsmTrouble });
    this.localKeks = new LocalKeks(calls.localKeks, options.localKek);
    this.#keyring = this.#createKeyring(options);
    this.outage = new Outage(options.outage, log);
    const health = new Health(hsm, this.outage);
    const parts = { keyring: this.#keyring, prover: this.#prover, memory };
    this.#active = new ActiveKey({ ...parts, health, gate, now: clocks.now, log });
    this.#check = this.#createCheck(options, health);
    const provider = new Provider({
      ...parts,
      mode,
      calls,
      active: this.#active,
      outage: this.outage,
      cache: this.cache,
      localKeks: this.localKeks,
    });
    this.provider = provider;
    this.knownSeeds = new KnownSeeds({
      cache: this.cache,
      localKeks: this.localKeks,
      keyring: this.#keyring,
      decrypt: (question) => provider.decryptInBackground(question),
    });
  }

  #createKeyring({
    hsm,
    requestTimeoutMs,
    readsOnce = false,
    otherClusters,
    reload,
    policy,
    log,
  }: ProviderOptions): Keyring {
    return new Keyring({
      hsm,
      requestTimeoutMs,
      readsOnce,
      otherClusters,
      ...(reload !== undefined && { reloads: new ReloadSchedule(reload) }),
      policy,
      inUse: () => this.#active.published?.record.keyId,
      log,
      onRead: (schedule, gone) => {
        this.#onRead(schedule, gone);
      },
    });
  }

  #onRead(schedule: Schedule, gone: readonly Generation[]): void {
    this.#memory.keysRead(() => namesOf(schedule));
    const goneNames = gone.flatMap(({ record }) => [record.keyId, ...record.aliases]);
    for (const name of goneNames) this.#forget(name);
    this.#follower?.keysRead(goneNames);
    // A KEK found by a request for an unknown key_id is proven now, not at the next interval.
    const isNew = ({ record }: Generation): boolean => this.#prover.isUntried(record.keyId);
    if (schedule.generations.some(isNew)) this.#check.requestRound();
  }

  #createCheck({ intervalMs, maxReadingAgeMs, log }: ProviderOptions, health: Health): BackgroundCheck {
    return new BackgroundCheck({
      keyring: this.#keyring,
      prover: this.#prover,
      health,
      intervalMs,
      maxReadingAgeMs,
      inUse: () => this.#active.published?.record.keyId,
      now: () => Date.now(),
      log,
      onRound: () => this.#afterRound(),
    });
  }

  /** Notifies a part of the results of the background check from now on. There is at most one such part. */
  follow(follower: CheckFollower): void {
    this.#follower = follower;
  }

  start(): void {
    void this.#check.run(this.#stopped.signal);
  }

  /** Stops the background check, and zeroes cached DEK seeds and local KEKs. */
  stop(): void {
    this.#stopped.abort();
    this.#memory.close();
    this.cache.clear();
    this.localKeks.clear();
  }

  /** Zeroes cached DEK seeds and local KEKs, and has the HSM checked again at once. */
  forgetSeeds(): void {
    this.cache.clear();
    this.localKeks.clear();
    this.#check.requestRound();
  }

  /** Returns the document served at /keys. @param refresh requests a reading of the token soon, at a limited rate */
  keyring(refresh = false): KeyringReport {
    if (refresh) this.#check.refresh();
    return reportKeyring(this.#parts(), Date.now());
  }

  keys(): KeyReport[] {
    return reportKeys(this.#parts(), Date.now());
  }

  #parts(): KeyringParts {
    return {
      keyring: this.#keyring,
      prover: this.#prover,
      active: this.#active,
      memory: this.#memory,
    };
  }

  /** Returns whether the HSM answers and every KEK works, whatever Status still answers. */
  readiness(): Readiness {
    return readinessOf({
      hsm: this.#hsm,
      keyring: this.#keyring,
      active: this.#active,
      outage: this.outage,
      provider: this.provider,
      keys: this.keys(),
      gate: this.#gate,
    });
  }

  /** Whether a KEK is due but not activated. */
  get isHeldBack(): boolean {
    return this.#active.choose().heldBack !== undefined;
  }

  /** Whether the last reading of the token failed, and how long it took. */
  get reading(): { readonly failed: boolean; readonly seconds: number } {
    return { failed: this.#keyring.error !== undefined, seconds: this.#keyring.tookMs / 1000 };
  }

  #forget(keyId: string): void {
    this.cache.dropKey(keyId);
    this.localKeks.dropKey(keyId);
  }

  async #afterRound(): Promise<void> {
    this.cache.purgeStale();
    this.#follower?.roundDone();
    const { generation } = this.#active.choose();
    if (this.#mode !== "local-kek" || generation === undefined || this.outage.reason !== undefined) return;
    // In advance, so that Encrypt works during an outage. The next proof reports a failure.
    await this.localKeks.prepare(generation.record.keyId).catch(() => undefined);
  }
}

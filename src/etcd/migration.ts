// Rewrites, through the API, every object in etcd that is not under the active KEK, until a survey of etcd finds none
// left. Keeps no state between runs: after an interruption the next run finds fewer objects to rewrite. An API server
// uses a new key only after its next Status call to the plugin, so objects that it left unchanged are tried again.
import { setTimeout as sleep } from "node:timers/promises";
import PQueue from "p-queue";
import { KmsError } from "../errors.js";
import type { ApiResources } from "./api-resources.js";
import type { CountObserver } from "./count-objects.js";
import type { KubeApi } from "./kube-api.js";
import { rewrite, type Rewriting } from "./rewrite.js";
import { parseStorageKey, resourceOf } from "./storage-key.js";
import type { EtcdStore, StoredObject } from "./store.js";
import { stateOf, takeSurvey, type Aim, type Survey } from "./survey.js";

export interface MigrationPorts {
  readonly store: EtcdStore;
  /** kube-apiserver's `--etcd-prefix`. */
  readonly prefix: string;
  readonly api: KubeApi;
  readonly resources: ApiResources;
}

export interface MigrationOptions {
  readonly aim: Aim;
  /** Maximum number of objects per second. */
  readonly rate: number;
  /** Maximum number of requests at a time. */
  readonly concurrency: number;
  /** How long to retry objects that API servers leave unchanged. */
  readonly settleMs: number;
  /** Only finds the path of each object in the API; writes nothing. */
  readonly dryRun: boolean;
  /** Ends the migration after the requests in progress. */
  readonly signal: AbortSignal;
  readonly observer: MigrationObserver;
}

export interface MigrationObserver {
  /** Called with the number of objects handled in this pass, and how many had to be. */
  handled(done: number, toHandle: number): void;
  /** Returns the observer of another survey, which counts what is left. */
  surveys(): CountObserver;
}

export interface Failure {
  readonly resource: string;
  readonly reason: string;
  readonly objects: number;
  /** An etcd key. */
  readonly example: string;
}

export interface Migrated {
  readonly passes: number;
  readonly rewritten: number;
  /** Objects that others have written under the active KEK in the meantime. */
  readonly overtaken: number;
  readonly gone: number;
  /** From the last pass. */
  readonly failures: readonly Failure[];
  readonly after: Survey;
  readonly interrupted: boolean;
}

const PAUSE_MS = 5_000;
/** A pass whose first objects are all unchanged ends after this many: the API servers do not use the new key yet. */
const MAX_INITIAL_UNCHANGED = 50;
const UNCHANGED =
  "kube-apiserver leaves it unchanged: it does not write this resource under the active KEK; check its EncryptionConfiguration and its plugin's key_id";
const SLICE_MS = 100;

/**
 * Rewrites the stale objects of a survey, and those that become stale meanwhile.
 * @throws KmsError PEER_UNREACHABLE if etcd or the API does not answer; a later run continues
 */
export async function migrate(
  ports: MigrationPorts,
  before: Survey,
  options: MigrationOptions,
): Promise<Migrated> {
  const { signal, settleMs, aim, dryRun, observer } = options;
  const { prefix } = ports;
  let survey = before;
  const sum = { rewritten: 0, overtaken: 0, gone: 0 };
  let deadline: number | undefined;
  for (let passes = 1; ; passes++) {
    observer.handled(0, survey.left);
    const pass = new Pass(ports, survey.left, options);
    await pass.run();
    sum.rewritten += pass.counts.rewritten;
    sum.overtaken += pass.counts.overtaken;
    sum.gone += pass.counts.gone;
    survey = await takeSurvey(ports.store, aim, { prefix, observer: observer.surveys() });
    deadline ??= performance.now() + settleMs;
    const isHopeless = pass.counts.unchanged + pass.counts.rewritten === 0;
    const isOver = dryRun || signal.aborted || performance.now() >= deadline;
    if (survey.left === 0 || isHopeless || isOver) {
      return { passes, ...sum, failures: pass.failures, after: survey, interrupted: signal.aborted };
    }
    await sleep(Math.min(PAUSE_MS, settleMs), undefined, { signal }).catch(() => undefined);
  }
}

/** Reads etcd once and rewrites every stale object. */
class Pass {
  readonly counts: Record<Rewriting["kind"], number> = {
    rewritten: 0,
    unchanged: 0,
    gone: 0,
    overtaken: 0,
    failed: 0,
  };
  readonly #ports: MigrationPorts;
  readonly #toHandle: number;
  readonly #options: MigrationOptions;
  readonly #queue: PQueue;
  readonly #failures = new Map<string, Failure>();
  /** The error that ends the pass. */
  #fatal: KmsError | undefined;

  constructor(ports: MigrationPorts, toHandle: number, options: MigrationOptions) {
    this.#ports = ports;
    this.#toHandle = toHandle;
    this.#options = options;
    const { rate, concurrency } = options;
    const slice = Math.max(1, Math.round((rate * SLICE_MS) / 1000));
    this.#queue = new PQueue({ concurrency, intervalCap: slice, interval: (slice * 1000) / rate });
  }

  async run(): Promise<void> {
    const { store, prefix } = this.#ports;
    const { aim, concurrency } = this.#options;
    for await (const object of store.objects()) {
      if (this.#isOver) break;
      const state = stateOf(object.value, parseStorageKey(object.key, prefix), aim);
      if (state === "unreadable") this.#fail(object, (object.value as KmsError).message);
      if (state !== "stale") continue;
      await this.#queue.onSizeLessThan(concurrency);
      void this.#queue.add(() => this.#rewrite(object));
    }
    if (this.#isOver) this.#queue.clear();
    await this.#queue.onIdle();
    if (this.#fatal !== undefined) throw this.#fatal;
  }

  get failures(): Failure[] {
    return [...this.#failures.values()];
  }

  get #isOver(): boolean {
    const { unchanged, failed, ...useful } = this.counts;
    const isEarly = useful.rewritten + useful.overtaken + useful.gone + failed === 0;
    return (
      this.#options.signal.aborted ||
      this.#fatal !== undefined ||
      (isEarly && unchanged >= MAX_INITIAL_UNCHANGED)
    );
  }

  async #rewrite(object: StoredObject): Promise<void> {
    if (this.#isOver) return;
    try {
      const outcome = await this.#outcome(object);
      this.counts[outcome.kind]++;
      if (outcome.kind === "failed") this.#fail(object, outcome.reason);
      if (outcome.kind === "unchanged") this.#fail(object, UNCHANGED);
      const handled = Object.values(this.counts).reduce((sum, count) => sum + count, 0);
      this.#options.observer.handled(handled, this.#toHandle);
    } catch (error) {
      this.#fatal ??= KmsError.from(error);
    }
  }

  async #outcome({ key, modRevision }: StoredObject): Promise<Rewriting> {
    const { store, prefix, api, resources } = this.#ports;
    const object = parseStorageKey(key, prefix);
    if (object === undefined) return { kind: "failed", reason: "its key is not that of an API object" };
    const served = resources.pathOf(object);
    if ("reason" in served) return { kind: "failed", reason: served.reason };
    if (this.#options.dryRun) return { kind: "rewritten" };
    return rewrite(api, served.path, modRevision, async () => {
      const now = await store.object(key);
      return (
        now && {
          modRevision: now.modRevision,
          stale: stateOf(now.value, object, this.#options.aim) === "stale",
        }
      );
    });
  }

  #fail({ key }: StoredObject, text: string): void {
    const object = parseStorageKey(key, this.#ports.prefix);
    const resource = resourceOf(object);
    // The API server's message contains the object's name; without it, objects with the same reason share one line.
    const reason = object === undefined ? text : text.replaceAll(`"${object.name}"`, "it");
    const id = `${resource} ${reason}`;
    const known = this.#failures.get(id);
    this.#failures.set(id, {
      resource,
      reason,
      objects: (known?.objects ?? 0) + 1,
      example: known?.example ?? key,
    });
  }
}

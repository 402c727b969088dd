// Rewrites, through the API, whatever etcd does not hold under the active key, until a survey of etcd finds nothing
// left. Nothing is remembered between runs: a run that was interrupted is resumed by the next one, which finds less
// to do. API servers learn of a new key when they next ask the plugin, so what they leave unchanged is tried again.
import { setTimeout as sleep } from "node:timers/promises";
import PQueue from "p-queue";
import { KmsError } from "../errors.js";
import type { ApiResources } from "./api-resources.js";
import type { KubeApi } from "./kube-api.js";
import { rewrite, type Rewriting } from "./rewrite.js";
import { parseStorageKey } from "./storage-key.js";
import type { EtcdStore, StoredObject } from "./store.js";
import { resourceOf, standingOf, takeSurvey, type Aim, type Survey } from "./survey.js";

export interface MigrationPorts {
  readonly store: EtcdStore;
  /** kube-apiserver's `--etcd-prefix`. */
  readonly prefix: string;
  readonly api: KubeApi;
  readonly resources: ApiResources;
}

export interface MigrationOptions {
  readonly aim: Aim;
  /** Objects a second, at most. */
  readonly rate: number;
  /** Requests at a time. */
  readonly concurrency: number;
  /** How long to try again what API servers leave unchanged. */
  readonly settleMs: number;
  /** Ask the API for nothing but where objects are served. */
  readonly dryRun: boolean;
  /** Ends the migration after the requests under way. */
  readonly signal: AbortSignal;
  /** Called with the number of objects dealt with in this pass. */
  readonly onProgress: (done: number) => void;
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
  /** Written by others meanwhile, under the active key. */
  readonly overtaken: number;
  readonly gone: number;
  /** Of the last pass. */
  readonly failures: readonly Failure[];
  readonly after: Survey;
  readonly interrupted: boolean;
}

const PAUSE_MS = 5_000;
/** A pass that begins with so many unchanged objects is broken off: the API servers do not know the key yet. */
const UNCHANGED_AT_FIRST = 50;
const UNCHANGED =
  "kube-apiserver leaves it as it is: it does not write this resource under the active key; see its EncryptionConfiguration and its plugin's key_id";
const SLICE_MS = 100;

/** @throws KmsError PEER_UNREACHABLE when etcd or the API stays away; a later run goes on */
export async function migrate(ports: MigrationPorts, options: MigrationOptions): Promise<Migrated> {
  const { signal, settleMs, aim, dryRun } = options;
  const sum = { rewritten: 0, overtaken: 0, gone: 0 };
  let deadline: number | undefined;
  for (let passes = 1; ; passes++) {
    const pass = new Pass(ports, options);
    await pass.run();
    sum.rewritten += pass.counts.rewritten;
    sum.overtaken += pass.counts.overtaken;
    sum.gone += pass.counts.gone;
    const after = await takeSurvey(ports.store, ports.prefix, aim);
    deadline ??= performance.now() + settleMs;
    const isHopeless = pass.counts.unchanged + pass.counts.rewritten === 0;
    const isOver = dryRun || signal.aborted || performance.now() >= deadline;
    if (after.left === 0 || isHopeless || isOver) {
      return { passes, ...sum, failures: pass.failures, after, interrupted: signal.aborted };
    }
    await sleep(Math.min(PAUSE_MS, settleMs), undefined, { signal }).catch(() => undefined);
  }
}

/** One reading of etcd, with everything stale handed to the API. */
class Pass {
  readonly counts: Record<Rewriting["kind"], number> = {
    rewritten: 0,
    unchanged: 0,
    gone: 0,
    overtaken: 0,
    failed: 0,
  };
  readonly #ports: MigrationPorts;
  readonly #options: MigrationOptions;
  readonly #queue: PQueue;
  readonly #failures = new Map<string, Failure>();
  #broken: KmsError | undefined;

  constructor(ports: MigrationPorts, options: MigrationOptions) {
    this.#ports = ports;
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
      const standing = standingOf(object.value, parseStorageKey(object.key, prefix), aim);
      if (standing === "unreadable") this.#fail(object, (object.value as KmsError).message);
      if (standing !== "stale") continue;
      await this.#queue.onSizeLessThan(concurrency);
      void this.#queue.add(() => this.#rewrite(object));
    }
    if (this.#isOver) this.#queue.clear();
    await this.#queue.onIdle();
    if (this.#broken !== undefined) throw this.#broken;
  }

  get failures(): Failure[] {
    return [...this.#failures.values()];
  }

  get #isOver(): boolean {
    const { unchanged, failed, ...useful } = this.counts;
    const isEarly = useful.rewritten + useful.overtaken + useful.gone + failed === 0;
    return (
      this.#options.signal.aborted ||
      this.#broken !== undefined ||
      (isEarly && unchanged >= UNCHANGED_AT_FIRST)
    );
  }

  async #rewrite(object: StoredObject): Promise<void> {
    if (this.#isOver) return;
    try {
      const outcome = await this.#outcome(object);
      this.counts[outcome.kind]++;
      if (outcome.kind === "failed") this.#fail(object, outcome.reason);
      if (outcome.kind === "unchanged") this.#fail(object, UNCHANGED);
      this.#options.onProgress(Object.values(this.counts).reduce((sum, count) => sum + count, 0));
    } catch (error) {
      this.#broken ??= KmsError.from(error);
    }
  }

  async #outcome({ key, modRevision }: StoredObject): Promise<Rewriting> {
    const { store, prefix, api, resources } = this.#ports;
    const object = parseStorageKey(key, prefix);
    if (object === undefined) return { kind: "failed", reason: "its key is that of no API object" };
    const place = resources.place(object);
    if ("reason" in place) return { kind: "failed", reason: place.reason };
    if (this.#options.dryRun) return { kind: "rewritten" };
    return rewrite(api, place.path, modRevision, async () => {
      const now = await store.object(key);
      return (
        now && {
          modRevision: now.modRevision,
          stale: standingOf(now.value, object, this.#options.aim) === "stale",
        }
      );
    });
  }

  #fail({ key }: StoredObject, text: string): void {
    const object = parseStorageKey(key, this.#ports.prefix);
    const resource = resourceOf(object);
    // One line for all objects that share a reason: the API server names each of them.
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

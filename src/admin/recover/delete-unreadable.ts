// Deletes unreadable objects through kube-apiserver, one by one. What was decided before the operator confirmed is decided
// again after it, and each object once more immediately before its deletion; the audit log has the intent before, and the
// outcome that etcd shows afterwards. Can be run again after an interruption: what is gone is gone.
import { KmsError } from "../../errors.js";
import { ApiResources } from "../../etcd/api-resources.js";
import type { KubeApi } from "../../etcd/kube-api.js";
import type { EtcdStore } from "../../etcd/store.js";
import { askApi, deleteUnreadable } from "../../etcd/unsafe-delete.js";
import type { ApprovalDetails } from "../approval-check.js";
import { untilInterrupted } from "../interrupts.js";
import { insistOnOperatorEvent, recordOperatorEvent } from "../operator-audit.js";
import { addressAll, type Addressed } from "./api-paths.js";
import { requireAge, requireBackup, type Backup, type BackupDemand } from "./backup.js";
import { deletableOf, reasonToKeep, type Kept, type Selection } from "./deletable.js";
import { settledEarlier, type Earlier } from "./earlier-deletions.js";
import { askNodes, withKnowledge, type Finding, type Found } from "./find-unreadable.js";
import { collectionsOfGone, listAgain, type ListResult } from "./list-again.js";
import { recheck, requireProven, type RecheckPorts } from "./recheck.js";
import { OPERATION } from "./recorded-deletions.js";

export const OUTCOMES = ["deleted", "gone", "changed", "readable", "refused", "unknown", "kept"] as const;

export interface DeletionResult {
  readonly key: string;
  readonly modRevision: number;
  readonly outcome: (typeof OUTCOMES)[number];
  /** Null for what is deleted, or gone without a record. */
  readonly reason: string | null;
}

type Outcome = Pick<DeletionResult, "outcome" | "reason">;

export interface DeletionOrder extends Selection {
  readonly api: KubeApi;
  readonly backup: BackupDemand;
  /** Maximum number of objects to delete. */
  readonly limit: number;
  readonly nodes: readonly URL[];
  readonly skipClusterCheck: boolean;
  /** Asks the operator. @throws KmsError CANCELLED */
  readonly confirm: (objects: readonly Finding[], backup: Backup) => Promise<void>;
  /** Requires an approval of the deletion. @throws KmsError NOT_APPROVED */
  readonly approve: () => Promise<ApprovalDetails>;
}

export interface Deletion {
  readonly backup: Backup | null;
  readonly results: readonly DeletionResult[];
  readonly lists: readonly ListResult[];
  /** What ended the deletion early; undefined if it came to its end. */
  readonly failure: KmsError | undefined;
}

/** Where the objects are and what decrypts them. */
export interface DeletionPorts extends RecheckPorts {
  readonly store: EtcdStore;
  readonly prefix: string;
}

/**
 * Deletes what may be deleted of the unreadable objects that were found.
 * @throws KmsError before anything is deleted; later failures are in the result
 */
export async function deleteFound(
  found: Found,
  ports: DeletionPorts,
  order: DeletionOrder,
): Promise<Deletion> {
  const { api, only, backup: demand } = order;
  const earlier = await settledEarlier(only, found.findings, ports, demand.maxAgeMs);
  const { chosen, kept } = deletableOf(found, order);
  if (chosen.length > 0) {
    requireFew(found, chosen.length, order.limit);
    const { unproven } = await requireProven(ports, false);
    for (const { reason } of unproven) ports.operator.notify(`${reason}; no stored object names it`);
  }
  const isApiNeeded = chosen.length > 0 || earlier.some(({ outcome }) => outcome === "gone");
  if (!isApiNeeded) return nothingDeleted(kept, earlier, []);
  const resources = await ApiResources.discover(api);
  const before = collectionsOfGone(earlier, ports.prefix, resources);
  const { addressed, kept: unserved } = await addressAll(chosen, { ...ports, api, resources }, order);
  const left = [...kept, ...unserved];
  if (addressed.length === 0) {
    const listed = await untilInterrupted((signal) => listAgain(before, api, signal));
    return nothingDeleted(left, earlier, listed);
  }
  const work = await confirmed(addressed, ports, order);
  const lists = await untilInterrupted(async (signal) => {
    await work.run(addressed, signal);
    return listAgain(new Map([...before, ...work.touched]), api, signal);
  });
  const results = [...work.results, ...earlier, ...left.map(keptResult)];
  return { backup: work.backup, results, lists, failure: work.failure };
}

/** Requires what a deletion needs beside the objects, and asks. What was decided before the question is decided again. */
async function confirmed(
  addressed: readonly Addressed[],
  ports: DeletionPorts,
  order: DeletionOrder,
): Promise<Work> {
  const objects = addressed.map(({ finding }) => finding);
  const backup = await requireBackup(order.backup, objects, ports.operator);
  await order.confirm(objects, backup);
  await requireProven(ports, true);
  requireAge(order.backup, Date.parse(backup.writtenAt));
  return new Work(ports, order, backup, await order.approve());
}

function nothingDeleted(
  kept: readonly Kept[],
  earlier: readonly Earlier[],
  lists: readonly ListResult[],
): Deletion {
  return { backup: null, results: [...earlier, ...kept.map(keptResult)], lists, failure: undefined };
}

function keptResult({ finding: { key, modRevision }, why }: Kept): DeletionResult {
  return { key, modRevision, outcome: "kept", reason: why };
}

/** Many unreadable objects are rarely damaged one by one: more often a KEK is missing. */
function requireFew({ unreadable, findings }: Found, chosen: number, limit: number): void {
  if (unreadable > findings.length) {
    throw new KmsError(
      "CONFIG_INVALID",
      `${unreadable} objects cannot be decrypted, more than are listed; restore the KEK or the backup instead`,
    );
  }
  if (chosen <= limit) return;
  throw new KmsError(
    "CONFIG_INVALID",
    `${chosen} objects would be deleted, more than --limit ${limit}; that many usually mean that a KEK is missing; if they are lost, give --limit ${chosen}`,
  );
}

class Work {
  readonly backup: Backup;
  readonly results: DeletionResult[] = [];
  failure: KmsError | undefined;
  readonly #ports: DeletionPorts;
  readonly #order: DeletionOrder;
  readonly #details: Readonly<Record<string, string>>;
  /** The paths of all objects of the resources of which something was deleted, by resource. */
  readonly touched = new Map<string, string>();

  constructor(ports: DeletionPorts, order: DeletionOrder, backup: Backup, approval: ApprovalDetails) {
    this.#ports = ports;
    this.#order = order;
    this.backup = backup;
    this.#details = { ...approval, backup: backup.sha256 };
  }

  /** Handles the objects in their order, until all are handled, one fails in a way that concerns all, or an interrupt. */
  async run(chosen: readonly Addressed[], signal: AbortSignal): Promise<void> {
    const progress = this.#ports.operator.startProgress("objects", chosen.length);
    try {
      for (const one of chosen) {
        if (signal.aborted) {
          throw new KmsError("CANCELLED", "interrupted; repeat the command to continue with the rest");
        }
        const { key, modRevision } = one.finding;
        const result = await this.#handle(one);
        this.results.push({ key, modRevision, ...result });
        progress.update(this.results.length, chosen.length);
      }
    } catch (error) {
      this.failure = KmsError.from(error);
    } finally {
      progress.end();
    }
  }

  async #handle({ finding, path, collection }: Addressed): Promise<Outcome> {
    const { tokens } = this.#ports;
    const { api, nodes } = this.#order;
    const now = await recheck(finding, this.#ports);
    if (now.kind === "gone") return { outcome: "gone", reason: null };
    if (now.kind === "changed") return { outcome: "changed", reason: now.reason };
    const asked = now.object.cause === "unknown-key-id" ? await askNodes(nodes) : [];
    const why = reasonToKeep(withKnowledge(now.object, tokens, asked), asked, this.#order);
    if (why !== undefined) return { outcome: "kept", reason: why };
    const verdict = await askApi(api, path);
    if (verdict.kind === "unsupported") throw new KmsError("CONFIG_INVALID", verdict.reason);
    if (verdict.kind === "readable") return { outcome: "readable", reason: verdict.reason };
    if (verdict.kind !== "unreadable") return { outcome: "refused", reason: reasonOf(verdict) };
    this.touched.set(finding.resource, collection);
    return this.#deleteRecorded(now.object, path);
  }

  /** Records the intent, deletes, looks at etcd, and records the outcome. */
  async #deleteRecorded(
    { key, modRevision, cause, keyId }: Pick<Finding, "key" | "modRevision" | "keyId"> & { cause: string },
    path: string,
  ): Promise<Outcome> {
    const { settings, operator } = this.#ports;
    const event = {
      operation: OPERATION,
      ...(keyId !== null && { keyId }),
      details: { key, modRevision, cause, ...this.#details },
    };
    await insistOnOperatorEvent(settings, operator, { ...event, outcome: "begun" });
    const result = await this.#delete(key, modRevision, path).catch((error: unknown) => KmsError.from(error));
    const isError = result instanceof KmsError;
    const outcome = isError ? result.code : result.outcome === "deleted" ? "ok" : result.outcome;
    await recordOperatorEvent(settings, operator, { ...event, outcome });
    if (!isError) return result;
    // The run ends, and its results name this object too.
    this.results.push({ key, modRevision, outcome: "unknown", reason: result.message });
    throw result;
  }

  async #delete(key: string, modRevision: number, path: string): Promise<Outcome> {
    const answer = await deleteUnreadable(this.#order.api, path).catch((error: unknown) =>
      KmsError.from(error),
    );
    const now = await this.#ports.store.object(key);
    // A controller may have made a new object of this name at once.
    if (now === undefined || now.createRevision > modRevision) return { outcome: "deleted", reason: null };
    if (answer instanceof KmsError) {
      return { outcome: "unknown", reason: `${answer.message}; etcd still has it` };
    }
    if (answer.kind === "readable") return { outcome: "readable", reason: reasonOf(answer) };
    const reason =
      answer.kind === "deleted" || answer.kind === "gone" ? "etcd still has it" : reasonOf(answer);
    return { outcome: "refused", reason };
  }
}

function reasonOf(verdict: { readonly kind: string; readonly reason?: string }): string {
  return verdict.reason ?? "the API does not have it, although etcd does";
}

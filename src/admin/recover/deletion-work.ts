// Deletes the chosen objects, and checks each of them once more immediately before. Writes to the audit log the intent before
// each deletion and, afterwards, the outcome that etcd shows.
import { hostname } from "node:os";
import { KmsError } from "../../errors.js";
import { askApi, deleteUnreadable } from "../../etcd/unsafe-delete.js";
import type { ApprovalDetails } from "../approval-check.js";
import { insistOnOperatorEvent, recordOperatorEvent } from "../operator-audit.js";
import type { Addressed } from "./api-paths.js";
import type { Backup } from "./backup.js";
import { reasonToKeep } from "./deletable.js";
import type { DeletionOrder, DeletionPorts, DeletionResult, Outcome } from "./deletion.js";
import { askNodes, withKnowledge, type Finding } from "./find-unreadable.js";
import { recheck } from "./recheck.js";
import { OPERATION } from "./recorded-deletions.js";

/** Deletes the objects that were chosen and confirmed, and keeps the results. */
export class Work {
  readonly backup: Backup;
  readonly results: DeletionResult[] = [];
  failure: KmsError | undefined;
  readonly #ports: DeletionPorts;
  readonly #order: DeletionOrder;
  /** The object whose deletion has begun, and whose outcome is not recorded yet. */
  #begun: string | undefined;
  readonly #details: Readonly<Record<string, string>>;
  /** The paths of all objects of the resources of which something was deleted, by resource. */
  readonly touched = new Map<string, string>();

  constructor(ports: DeletionPorts, order: DeletionOrder, backup: Backup, details: ApprovalDetails) {
    this.#ports = ports;
    this.#order = order;
    this.backup = backup;
    this.#details = { ...details, backup: backup.sha256 };
  }

  /** Handles the objects in order; stops early at an interrupt, or at an error that concerns all of them. */
  async run(chosen: readonly Addressed[], signal: AbortSignal): Promise<void> {
    const progress = this.#ports.operator.startProgress("objects", chosen.length);
    try {
      for (const one of chosen) {
        if (signal.aborted) throw new KmsError("CANCELLED", "interrupted");
        const { key, modRevision } = one.finding;
        const result = await this.#handle(one);
        this.results.push({ key, modRevision, ...result });
        progress.update(this.results.length, chosen.length);
      }
    } catch (error) {
      this.failure = endedEarly(KmsError.from(error), this.results, chosen.length);
    } finally {
      progress.end();
    }
  }

  /** Returns what the run has done, and what is unknown, if it ends now. */
  unfinished(all: number): string {
    const unknown =
      this.#begun === undefined
        ? ""
        : `; it is not known whether ${this.#begun} was deleted, the audit log has its beginning`;
    return `${deletedOf(this.results, all)}${unknown}; run the command again on ${hostname()}: it names what this run has deleted, and continues`;
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

  /** Records the intent, deletes, reads from etcd what became of the object, and records that outcome. */
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
    this.#begun = key;
    const result = await this.#delete(key, modRevision, path).catch((error: unknown) => KmsError.from(error));
    const isError = result instanceof KmsError;
    const outcome = isError ? result.code : result.outcome === "deleted" ? "ok" : result.outcome;
    await recordOperatorEvent(settings, operator, { ...event, outcome });
    this.#begun = undefined;
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
    if (now === undefined && !(answer instanceof KmsError) && answer.kind === "gone") {
      return { outcome: "gone", reason: null };
    }
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

/** Adds to the error what the run had done by then, and how to continue. */
function endedEarly(error: KmsError, results: readonly DeletionResult[], all: number): KmsError {
  const next = `repeat the command on ${hostname()}, whose audit log names what was deleted, to continue with the rest`;
  return new KmsError(error.code, `${error.message}; ${deletedOf(results, all)}; ${next}`, error);
}

function deletedOf(results: readonly DeletionResult[], all: number): string {
  const deleted = results.filter(({ outcome }) => outcome === "deleted").length;
  return `deleted before that: ${deleted} of ${all} ${all === 1 ? "object" : "objects"}`;
}

function reasonOf(verdict: { readonly kind: string; readonly reason?: string }): string {
  return verdict.reason ?? "the API does not have it, although etcd does";
}

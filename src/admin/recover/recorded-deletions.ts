// Reads from this node's audit log what interrupted runs of `etcd recover --delete` began to delete. A killed run has printed
// no results; without --only, only the log names its objects.
import { existsSync } from "node:fs";
import type { AuditLine } from "../../audit/line.js";
import { readRecentLines } from "../../audit/recent-lines.js";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import { normalPrefix } from "../../etcd/storage-key.js";
import { fileError } from "../../files/file-error.js";
import type { Operator } from "../operator.js";

/** As in the audit log. */
export const OPERATION = "etcd recover";
/** The outcome of a run that came to its end, after which every resource could be listed. */
export const DONE = "ok";
/** The outcome of an object that an earlier run began to delete, and which this run has reported. */
export const GONE = "gone";

export interface RecordedDeletion {
  readonly key: string;
  readonly modRevision: number;
  /** When the deletion began, ISO 8601. */
  readonly begunAt: string;
}

/** As many objects as one run may delete. */
const MAX_OBJECTS = 10_000;

/**
 * Returns the objects under a prefix whose deletion began since a time, in a run that did not come to its end, each as it was recorded
 * last. If the log cannot be read, warns and returns none.
 */
export async function recordedDeletions(
  { audit }: Settings,
  prefix: string,
  since: number,
  operator: Operator,
): Promise<RecordedDeletion[]> {
  // Without a file, nothing has been recorded yet.
  if (audit === undefined || !existsSync(audit.file)) return [];
  const open = new OpenDeletions(normalPrefix(prefix), since);
  try {
    const { beginsAt } = await readRecentLines(audit, { operation: OPERATION, since }, (line) => {
      open.read(line);
    });
    if (beginsAt !== undefined) {
      operator.notify(
        `note: the audit log begins at ${beginsAt}: if a run was interrupted before that, what it deleted is not named`,
      );
    }
  } catch (error) {
    const { message } = fileError(error) ?? KmsError.from(error);
    operator.notify(`warning: the audit log does not show what earlier runs have deleted: ${message}`);
  }
  return open.deletions();
}

/** The deletions of runs whose end has not been read. */
class OpenDeletions {
  readonly #prefix: string;
  readonly #since: number;
  readonly #byKey = new Map<string, RecordedDeletion & { readonly run: unknown }>();

  constructor(prefix: string, since: number) {
    this.#prefix = prefix;
    this.#since = since;
  }

  read({ fields }: AuditLine): void {
    const { operation, outcome, time, details } = fields;
    if (operation !== OPERATION) return;
    // Releases that recorded no end had no runs either.
    const { key, modRevision, run, end } = (details ?? {}) as Readonly<Record<string, unknown>>;
    if (end === true) {
      if (outcome === DONE) this.#settle(run);
    } else if (typeof key === "string" && typeof modRevision === "number") {
      const begunAt = String(time);
      if (outcome === "begun") this.#add({ key, modRevision, begunAt, run });
      else if (outcome === GONE) this.#take(key, run);
    }
  }

  deletions(): RecordedDeletion[] {
    return [...this.#byKey.values()].map(({ key, modRevision, begunAt }) => ({ key, modRevision, begunAt }));
  }

  #add(deletion: RecordedDeletion & { readonly run: unknown }): void {
    const { key, begunAt } = deletion;
    if (Date.parse(begunAt) < this.#since || !key.startsWith(this.#prefix)) return;
    this.#byKey.delete(key);
    this.#byKey.set(key, deletion);
    const [oldest = key] = this.#byKey.keys();
    if (this.#byKey.size > MAX_OBJECTS) this.#byKey.delete(oldest);
  }

  /** The object is that run's now, and settled when it ends. */
  #take(key: string, run: unknown): void {
    const deletion = this.#byKey.get(key);
    if (deletion !== undefined && run !== undefined) this.#byKey.set(key, { ...deletion, run });
  }

  #settle(run: unknown): void {
    if (run === undefined) return;
    for (const [key, deletion] of this.#byKey) if (deletion.run === run) this.#byKey.delete(key);
  }
}

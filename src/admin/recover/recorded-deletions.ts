// What earlier runs of `etcd recover --delete` began to delete, from the audit log of this node. A run that was killed has shown
// its results to nobody; without --only, the log is all that names its objects.
import { existsSync } from "node:fs";
import { verifyAudit } from "../../audit/verify.js";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import { normalPrefix } from "../../etcd/storage-key.js";
import { fileError } from "../../files/file-error.js";
import type { Operator } from "../operator.js";

/** As the audit log has it. */
export const OPERATION = "etcd recover";

export interface RecordedDeletion {
  readonly key: string;
  readonly modRevision: number;
  /** When the deletion began, ISO 8601. */
  readonly begunAt: string;
}

/**
 * Returns the objects under a prefix whose deletion began since a time, each as it was recorded last. If the log cannot be read,
 * warns and returns none.
 */
export async function recordedDeletions(
  { audit }: Settings,
  prefix: string,
  since: number,
  operator: Operator,
): Promise<RecordedDeletion[]> {
  // Without a file, nothing has been recorded yet.
  if (audit === undefined || !existsSync(audit.file)) return [];
  const recorded = new Map<string, RecordedDeletion>();
  const onLine = ({ fields }: { readonly fields: Readonly<Record<string, unknown>> }): void => {
    const deletion = deletionOf(fields);
    if (deletion === undefined || Date.parse(deletion.begunAt) < since) return;
    if (deletion.key.startsWith(normalPrefix(prefix))) recorded.set(deletion.key, deletion);
  };
  try {
    await verifyAudit(audit, { onLine });
  } catch (error) {
    const { message } = fileError(error) ?? KmsError.from(error);
    operator.notify(`warning: the audit log does not show what earlier runs have deleted: ${message}`);
  }
  return [...recorded.values()];
}

function deletionOf(fields: Readonly<Record<string, unknown>>): RecordedDeletion | undefined {
  if (fields["operation"] !== OPERATION || fields["outcome"] !== "begun") return undefined;
  const { key, modRevision } = (fields["details"] ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof key !== "string" || typeof modRevision !== "number") return undefined;
  return { key, modRevision, begunAt: String(fields["time"]) };
}

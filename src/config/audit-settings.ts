// The settings of the audit log, from the options of the document.
import { join } from "node:path";
import type { Document } from "./schema.js";

const MEBIBYTE = 1024 * 1024;
/** In the state directory. */
const AUDIT_KEY = "audit.key";

export interface AuditSettings {
  readonly file: string;
  readonly keyFile: string;
  readonly maxBytes: number;
  readonly keep: number;
  /** Whether a command that changes a KEK fails while the log cannot be written. */
  readonly required: boolean;
}

/** Returns the settings; undefined if no audit log is configured, or no place for its key. */
export function auditOf({ audit, stateDir }: Document): AuditSettings | undefined {
  const { file, keyFile = stateDir && join(stateDir, AUDIT_KEY) } = audit;
  if (file === undefined || keyFile === undefined) return undefined;
  const { keep, required } = audit;
  return { file, keyFile, maxBytes: audit.maxMebibytes * MEBIBYTE, keep, required };
}

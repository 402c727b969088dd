// The settings of the audit log, from the options of the document.
import { join } from "node:path";
import type { Document } from "./schema.js";
import type { SyslogAddress } from "./syslog-address.js";

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
  /** Absent if the log is not sent anywhere. */
  readonly sinks?: AuditSinkSettings;
}

/** The sinks of an audit log, of which at least one is configured. */
export interface AuditSinkSettings {
  /** Keeps the positions of the sinks. */
  readonly stateDir: string;
  readonly syslog?: SyslogSettings;
  readonly ocsf?: { readonly file: string };
}

export interface SyslogSettings {
  readonly address: SyslogAddress;
  readonly format: "json" | "ocsf";
  readonly facility: Document["audit"]["syslog"]["facility"];
  readonly maxMessageBytes: number;
  readonly ca?: string;
  readonly certificate?: string;
  readonly key?: string;
  readonly serverName?: string;
}

/** Returns the settings; undefined if no audit log is configured, or no path for its key. */
export function auditOf({ audit, stateDir }: Document): AuditSettings | undefined {
  const { file, keyFile = stateDir && join(stateDir, AUDIT_KEY) } = audit;
  if (file === undefined || keyFile === undefined) return undefined;
  const { keep, required } = audit;
  const sinks = sinksOf(audit, stateDir);
  return {
    file,
    keyFile,
    maxBytes: audit.maxMebibytes * MEBIBYTE,
    keep,
    required,
    ...(sinks !== undefined && { sinks }),
  };
}

function sinksOf(
  { syslog, ocsf }: Document["audit"],
  stateDir: string | undefined,
): AuditSinkSettings | undefined {
  const { address, ca, certificate, key, serverName, ...message } = syslog;
  if (stateDir === undefined || (address === undefined && ocsf.file === undefined)) return undefined;
  return {
    stateDir,
    ...(address !== undefined && {
      syslog: {
        address,
        ...message,
        ...(ca !== undefined && { ca }),
        ...(certificate !== undefined && { certificate }),
        ...(key !== undefined && { key }),
        ...(serverName !== undefined && { serverName }),
      },
    }),
    ...(ocsf.file !== undefined && { ocsf: { file: ocsf.file } }),
  };
}

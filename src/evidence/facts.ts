// The facts that the page and the files of a folder of evidence show. None of them is secret.
import type { AuditReport } from "../audit/verify.js";
import type { UsageReport } from "../etcd/usage-report.js";
import type { DrillReport } from "./drill-report.js";
import type { AuditExtract } from "./audit-extract.js";
import type { RunningVersions } from "./packages.js";

/** One KEK, as `keys list` shows it. */
export interface EvidenceKek {
  readonly keyId: string;
  readonly label: string;
  readonly kind: string;
  readonly state: string;
  /** ISO 8601; null for a KEK without an activation instant. */
  readonly activation: string | null;
  readonly findings: readonly string[];
  readonly tokens: readonly string[];
}

/** A finding of `check`. */
export interface EvidenceFinding {
  readonly group: string;
  readonly verdict: "ok" | "warn" | "fail";
  readonly subject: string;
  readonly detail: string;
}

/** An object-by-object verification that `etcd verify -o json` wrote. */
export interface EvidenceVerification {
  readonly resources: readonly {
    readonly resource: string;
    readonly objects: number;
    readonly opened: number;
    readonly failed: number;
  }[];
  readonly failures: readonly object[];
}

/** What was collected; undefined or null if it was not. */
export interface EvidenceFacts {
  readonly collectedAt: Date;
  readonly host: string;
  readonly cryptoperiodMs: number | undefined;
  readonly keys: { readonly keys: readonly EvidenceKek[]; readonly problem: string | null };
  readonly findings: readonly EvidenceFinding[];
  readonly audit: { readonly report: AuditReport; readonly extract: AuditExtract } | undefined;
  readonly usage: UsageReport | undefined;
  readonly verification: EvidenceVerification | undefined;
  readonly drill: DrillReport | undefined;
  readonly versions: RunningVersions;
}

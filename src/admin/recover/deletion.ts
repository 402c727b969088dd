// The input of a deletion of unreadable objects, and its result.
import type { KmsError } from "../../errors.js";
import type { KubeApi } from "../../etcd/kube-api.js";
import type { EtcdStore } from "../../etcd/store.js";
import type { ApprovalDetails } from "../approval-check.js";
import type { Backup, BackupDemand } from "./backup.js";
import type { Selection } from "./deletable.js";
import type { Earlier } from "./earlier-deletions.js";
import type { Finding } from "./find-unreadable.js";
import type { ListResult } from "./list-again.js";
import type { RecheckPorts } from "./recheck.js";

export const OUTCOMES = ["deleted", "gone", "changed", "readable", "refused", "unknown", "kept"] as const;

export interface DeletionResult {
  readonly key: string;
  readonly modRevision: number;
  readonly outcome: (typeof OUTCOMES)[number];
  /** Null if the object was deleted, or is gone and no record says why. */
  readonly reason: string | null;
}

export type Outcome = Pick<DeletionResult, "outcome" | "reason">;

export interface DeletionOrder extends Selection {
  readonly api: KubeApi;
  readonly backup: BackupDemand;
  /** Maximum number of objects to delete. */
  readonly limit: number;
  readonly nodes: readonly URL[];
  readonly skipClusterCheck: boolean;
  /** Asks the operator. @throws KmsError CANCELLED */
  readonly confirm: (objects: readonly Finding[], backup: Backup) => Promise<void>;
  /** Called when an interrupt no longer ends the process. */
  readonly begin: () => void;
  /** Requires an approval of the deletion. @throws KmsError NOT_APPROVED */
  readonly approve: () => Promise<ApprovalDetails>;
}

export interface Deletion {
  /** Its id in the audit log; null if it has deleted nothing and found nothing that an earlier run had deleted. */
  readonly run: string | null;
  /** What became of the objects that an earlier run was to delete. */
  readonly earlier: readonly Earlier[];
  readonly backup: Backup | null;
  readonly results: readonly DeletionResult[];
  readonly lists: readonly ListResult[];
  /** What ended the deletion early; undefined if it came to its end. */
  readonly failure: KmsError | undefined;
}

/** The store of the objects and the tokens that decrypt them. */
export interface DeletionPorts extends RecheckPorts {
  readonly store: EtcdStore;
  readonly prefix: string;
}

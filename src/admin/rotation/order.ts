// What an operator asks of a rotation.
import type { Settings } from "../../config/settings.js";
import type { EtcdAccess } from "../../etcd/endpoints.js";
import type { KubeApi } from "../../etcd/kube-api.js";
import type { ApprovalCheck } from "../approval-check.js";
import type { Confirm } from "../destroy-kek.js";
import type { MigrationOrder } from "../migrate-stored.js";
import type { Operator } from "../operator.js";
import type { DisuseProof } from "../require-unneeded.js";

/** The etcd to migrate and verify, and the API server that rewrites it. */
export interface StoredObjects {
  readonly access: EtcdAccess;
  readonly api: KubeApi;
  readonly migration: Omit<MigrationOrder, "api" | "keyId" | "means" | "dryRun" | "signal" | "operator">;
}

export interface RotationOrder {
  readonly settings: Settings;
  /** Every node's plugin. */
  readonly nodes: readonly URL[];
  readonly operator: Operator;
  readonly signal: AbortSignal;
  /** Returns when a KEK that is made now becomes active, in ms since the epoch. */
  readonly activation: () => number;
  /** Whether a standby KEK is destroyed before its activation if a token or node lacks it. */
  readonly guarded: boolean;
  /** Requires the approval of the policy, if there is one. */
  readonly approve: ApprovalCheck;
  /** Undefined if the run ends before the migration. */
  readonly stored: StoredObjects | undefined;
  /** What shows that a retired KEK is not needed. */
  readonly proof: DisuseProof;
  /** Digests of the usage reports in `proof`. */
  readonly reports: readonly string[];
  readonly confirm: Confirm | undefined;
}

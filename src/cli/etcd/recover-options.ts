// The options of `etcd recover` for deleting, and their checks, before anything is read.
import type { Command } from "commander";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import { addApprovalOption, type ApprovalOption } from "../approval-option.js";
import { durationOf } from "../duration-option.js";
import { NODES_FLAGS, type NodesOptions } from "../nodes-option.js";
import type { KekOptions } from "./kek-options.js";
import type { EtcdOptions } from "./options.js";

export interface DeleteOptions extends ApprovalOption {
  readonly delete?: true;
  readonly backup?: string;
  readonly maxBackupAge: string;
  readonly only?: string;
  readonly lostKek?: readonly string[];
  readonly limit: string;
  readonly yes?: true;
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly skipClusterCheck?: true;
}

export type RecoverOptions = EtcdOptions & KekOptions & NodesOptions & DeleteOptions;

const MAX_LIMIT = 10_000;

/** Adds the options. */
export function addRecoverOptions(command: Command): Command {
  const collect = (text: string, before: readonly string[] = []): string[] => [...before, text];
  return addApprovalOption(
    command
      .option(
        NODES_FLAGS,
        "every node's plugin, such as http://127.0.0.1:8090 (default: the setting nodes); asked whether it knows a key_id that is unknown here",
      )
      .option("--delete", "have kube-apiserver delete what is listed, object by object")
      .option("--backup <file>", "snapshot of 'etcdctl snapshot save' with the objects; required by --delete")
      .option("--max-backup-age <duration>", "how old the backup may be", "24h")
      .option("--only <file>", "delete only what this output of 'etcd recover -o json' lists")
      .option(
        "--lost-kek <key_id>",
        "your statement that no token, backup or other plugin has this KEK, so that objects under it may be deleted; repeat it for each",
        collect,
      )
      .option("--limit <number>", "refuse to delete more objects than this", "100")
      .option("--yes", "delete without asking; required without a terminal")
      .option("--kubeconfig <file>", "kubeconfig of the cluster; found as by kubectl if omitted")
      .option("--context <name>", "context of the kubeconfig")
      .option(
        "--skip-cluster-check",
        "continue although it is unknown whether the API server uses this etcd; refused if it is known not to",
      ),
  );
}

export interface DeletionLimits {
  readonly backupFile: string;
  readonly maxAgeMs: number;
  readonly limit: number;
}

/** Checks the options of --delete. @throws KmsError CONFIG_INVALID */
export function deletionLimits(options: RecoverOptions, settings: Settings): DeletionLimits {
  const { snapshot, backup, maxBackupAge, limit: text, yes, only, approval } = options;
  if (snapshot !== undefined) throw invalid("--delete: needs a running etcd; omit --snapshot");
  if (backup === undefined) {
    throw invalid(
      "--backup: name a snapshot that contains the objects; save it with 'etcdctl snapshot save'",
    );
  }
  if (settings.audit === undefined) {
    throw invalid(
      "audit.file: is missing; set it, since an object is deleted only if the audit log records it",
    );
  }
  if (approval !== undefined && only === undefined) {
    throw invalid("--only: give the list that the approval names");
  }
  if (yes !== true && !process.stdin.isTTY) throw invalid("--yes: is required without a terminal to ask on");
  const limit = Number(text);
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
    throw invalid(`--limit: give a whole number from 1 to ${MAX_LIMIT}`);
  }
  return { backupFile: backup, maxAgeMs: durationOf("--max-backup-age", maxBackupAge, "24h"), limit };
}

/** Requires that options which only concern a deletion are not given without it. @throws KmsError CONFIG_INVALID */
export function requireListing({ backup, only, lostKek, yes, approval, kubeconfig }: RecoverOptions): void {
  const given = { backup, only, "lost-kek": lostKek, yes, approval, kubeconfig };
  const [name] = Object.entries(given).find(([, value]) => value !== undefined) ?? [];
  if (name !== undefined) throw invalid(`--${name}: applies to --delete; give both or neither`);
}

function invalid(message: string): KmsError {
  return new KmsError("CONFIG_INVALID", message);
}

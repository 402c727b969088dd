// The options that the commands of a rotation share: what it is for, and the etcd and API server that it concerns.
import type { Command } from "commander";
import { settlingMs } from "../../admin/require-unneeded.js";
import { parseKeyReference } from "../../admin/key-reference.js";
import type { Wish } from "../../admin/rotation/goal.js";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import { durationOf } from "../duration-option.js";
import { addOptionalEtcdOptions, type OptionalEtcdOptions } from "../etcd/optional-etcd.js";
import { addAimOptions, DEFAULT_PREFIX } from "../etcd/options.js";

export interface GoalOptions {
  readonly replace?: string;
  readonly maxAge: string;
  readonly destroyAfter?: string;
}

export interface StoredOptions extends OptionalEtcdOptions {
  readonly etcdPrefix: string;
  readonly encryptionConfig?: string;
  readonly resources?: string;
}

/** Minimum of --max-age, in ms: if a rotation took longer than --max-age, continuing it would begin another one. */
const LEAST_MAX_AGE_MS = 24 * 3_600_000;
/** Clocks may differ by this much, in ms, so a KEK counts as settled only that much later. */
const CLOCKS_DIFFER_MS = 5_000;

/** Adds the options that say what a rotation is for. */
export function addGoalOptions(command: Command): Command {
  return command
    .option("--replace <key_id>", "replace this KEK; without it, the active KEK if it is due by --max-age")
    .option("--max-age <duration>", "an active KEK is due after this time since its activation", "720h")
    .option(
      "--destroy-after <duration>",
      "destroy what was replaced this long ago and is not needed any more; without it, nothing retired is destroyed",
    );
}

/** Adds the options of the etcd whose objects are migrated. */
export function addStoredOptions(command: Command): Command {
  const withEtcd = addOptionalEtcdOptions(command, "endpoints of etcd");
  return addAimOptions(
    withEtcd.option("--etcd-prefix <prefix>", "kube-apiserver's --etcd-prefix", DEFAULT_PREFIX),
  );
}

/** Returns what the rotation is for. @throws KmsError CONFIG_INVALID */
export function wishOf({ replace, maxAge, destroyAfter }: GoalOptions, settings: Settings): Wish {
  if (replace?.startsWith("@") === true) {
    throw new KmsError(
      "CONFIG_INVALID",
      `--replace: ${replace} names another KEK after the rotation, so the command could not be repeated; give the key_id`,
    );
  }
  const maxAgeMs = durationOf("--max-age", maxAge, "720h");
  if (maxAgeMs < LEAST_MAX_AGE_MS) {
    throw new KmsError(
      "CONFIG_INVALID",
      "--max-age: give at least 24h; to replace a younger KEK, name it with --replace",
    );
  }
  const afterMs =
    destroyAfter === undefined ? undefined : durationOf("--destroy-after", destroyAfter, "720h");
  return {
    replace: replace === undefined ? undefined : parseKeyReference("--replace", replace),
    maxAgeMs,
    retirement:
      afterMs === undefined ? undefined : { afterMs, settledMs: settlingMs(settings) + CLOCKS_DIFFER_MS },
  };
}

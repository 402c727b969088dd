// The options that the commands of a rotation share: what it is for, and the etcd and API server that it concerns.
import type { Command } from "commander";
import { settlingMs } from "../../admin/require-unneeded.js";
import { parseKeyReference } from "../../admin/key-reference.js";
import type { Wish } from "../../admin/rotation/goal.js";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import type { EtcdAccess } from "../../etcd/endpoints.js";
import { durationOf } from "../duration-option.js";
import { DEFAULT_PREFIX, etcdAccess } from "../etcd/options.js";

export interface GoalOptions {
  readonly replace?: string;
  readonly maxAge: string;
  readonly destroyAfter?: string;
}

export interface StoredOptions {
  readonly endpoints?: string;
  readonly cacert?: string;
  readonly cert?: string;
  readonly etcdKey?: string;
  readonly etcdPrefix: string;
  readonly encryptionConfig?: string;
  readonly resources?: string;
}

/** With a shorter one, a rotation that takes longer would be followed by another when it is continued, in ms. */
const LEAST_MAX_AGE_MS = 24 * 3_600_000;
/** Clocks that differ by this much are tolerated, in ms, so the time at which a KEK is settled counts from later. */
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
  return command
    .option(
      "--endpoints <list>",
      "endpoints of etcd (default: ETCDCTL_ENDPOINTS, with etcdctl's other variables)",
    )
    .option("--cacert <file>", "CA of etcd's certificate, PEM")
    .option("--cert <file>", "client certificate for etcd, PEM")
    .option("--etcd-key <file>", "private key of the client certificate, PEM")
    .option("--etcd-prefix <prefix>", "kube-apiserver's --etcd-prefix", DEFAULT_PREFIX)
    .option(
      "--encryption-config <file>",
      "kube-apiserver's EncryptionConfiguration: the resources to encrypt",
    )
    .option(
      "--resources <list>",
      "the resources to encrypt, such as secrets,configmaps; without both options: secrets and every partly encrypted resource",
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

/** Returns how etcd is reached; undefined if no endpoint is given. */
export function etcdOf(options: StoredOptions): (EtcdAccess & { readonly given: GivenEtcd }) | undefined {
  const { ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY } = process.env;
  const endpoints = options.endpoints ?? ETCDCTL_ENDPOINTS;
  if (endpoints === undefined || endpoints === "") return undefined;
  const cacert = options.cacert ?? ETCDCTL_CACERT;
  const cert = options.cert ?? ETCDCTL_CERT;
  const key = options.etcdKey ?? ETCDCTL_KEY;
  const tls = {
    ...(cacert !== undefined && { cacert }),
    ...(cert !== undefined && { cert }),
  };
  const access = etcdAccess({ endpoints, ...tls, ...(key !== undefined && { key }) });
  return { ...access, given: { endpoints, ...tls, ...(key !== undefined && { etcdKey: key }) } };
}

/** The same, as `keys destroy` takes it. */
export interface GivenEtcd {
  readonly endpoints: string;
  readonly cacert?: string;
  readonly cert?: string;
  readonly etcdKey?: string;
}

// The steps of a rotation that concern stored objects: whether etcd and API server belong together, the migration, and the
// verification.
import { KmsError } from "../../errors.js";
import { ApiResources } from "../../etcd/api-resources.js";
import type { EtcdAccess } from "../../etcd/endpoints.js";
import { takeSurvey } from "../../etcd/survey.js";
import { aimOf, type AimOptions } from "../migration-aim.js";
import { withLiveEtcd } from "../etcd-source.js";
import { leftBy, migrateStored, requireSameCluster, type MigrationResult } from "../migrate-stored.js";
import { verifyStored, type Verified } from "../verify-stored.js";
import type { RotationOrder, StoredObjects } from "./order.js";
import type { StepResult } from "./run-steps.js";

const MAX_REASONS = 5;

/** Returns what was checked, in a list of phrases. @throws KmsError CONFIG_INVALID, PEER_UNREACHABLE */
export async function checkAccess({ stored }: RotationOrder): Promise<string[]> {
  if (stored === undefined) return [];
  const { access, api, migration } = stored;
  const { prefix } = migration;
  return withLiveEtcd(access, async (etcd) => {
    const store = etcd.store(prefix);
    const ports = { store, prefix, api, resources: await ApiResources.discover(api) };
    await requireSameCluster(ports, () => store.objects(), migration);
    return [`${api.server} uses etcd ${access.endpoints.join(",")}`];
  });
}

/** Returns how many objects are not under a key_id. @throws KmsError CONFIG_INVALID, PEER_UNREACHABLE */
export async function countLeft(access: EtcdAccess, keyId: string, options: AimOptions): Promise<number> {
  return withLiveEtcd(access, async (etcd) => {
    const store = etcd.store(options.prefix);
    const aim = await aimOf(keyId, options, store);
    return (await takeSurvey(store, aim, { prefix: options.prefix })).left;
  });
}

/** Has everything rewritten under a key_id. @throws KmsError TOKEN_REFUSED if objects are left; CANCELLED; PEER_UNREACHABLE */
export async function migrateTo(order: RotationOrder, keyId: string): Promise<StepResult> {
  const { access, api, migration } = required(order);
  const result = await withLiveEtcd(access, (etcd) =>
    migrateStored(etcd, {
      ...migration,
      api,
      keyId,
      means: "patches",
      dryRun: false,
      signal: order.signal,
      operator: order.operator,
    }),
  );
  const left = leftBy(result);
  if (left > 0) throw notMigrated(result, left);
  const { revision } = result.done?.after ?? result.before;
  const rewritten = result.done?.rewritten ?? 0;
  return {
    detail: `${rewritten} objects rewritten; nothing is left at revision ${revision}`,
    found: { left },
  };
}

function notMigrated({ done, before }: MigrationResult, left: number): KmsError {
  const interrupted = done?.interrupted === true;
  const reasons = (done?.failures ?? [])
    .slice(0, MAX_REASONS)
    .map(({ objects, resource, reason, example }) => `\n${objects} of ${resource}: ${reason} (${example})`);
  const { revision } = done?.after ?? before;
  const next = interrupted
    ? "run the command again to continue"
    : "correct what prevents it and run the command again";
  return new KmsError(
    interrupted ? "CANCELLED" : "TOKEN_REFUSED",
    `${left} objects are left at revision ${revision}; ${next}${reasons.join("")}`,
  );
}

/** Decrypts everything. @throws KmsError NOT_AUTHENTIC with the reasons if an object cannot be decrypted */
export async function verifyAll(order: RotationOrder): Promise<StepResult> {
  const { access, migration } = required(order);
  const verified = await withLiveEtcd(access, (etcd) =>
    verifyStored(etcd, migration.prefix, order.settings, order.operator),
  );
  if (verified.failures.length > 0) throw undecryptable(verified);
  const { objects, decrypts } = verified;
  return {
    detail: `${objects} objects read, ${decrypts} DEK seeds decrypted by the HSM; every object under KMS v2 can be decrypted`,
    found: { verified: true },
  };
}

function undecryptable({ failures }: Verified): KmsError {
  const lines = failures
    .slice(0, MAX_REASONS)
    .map(({ objects, reason, keys }) => `\n${objects} failed: ${reason} (${keys[0] ?? ""})`);
  return new KmsError(
    "NOT_AUTHENTIC",
    `some objects cannot be decrypted, so no KEK is destroyed; see 'kms-pkcs11 etcd verify'${lines.join("")}`,
  );
}

function required({ stored }: RotationOrder): StoredObjects {
  if (stored !== undefined) return stored;
  throw new KmsError("CONFIG_INVALID", "--endpoints: is missing; etcd is needed from the migration on");
}

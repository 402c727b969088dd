// Takes a census of etcd or of a snapshot and returns the usage report that `etcd usage` prints and `keys destroy`
// requires.
import {
  providersOfResource,
  readEncryptionConfiguration,
  type EncryptionConfiguration,
} from "../config/encryption-configuration.js";
import { takeCensus } from "../etcd/count-objects.js";
import { resourceName, type ApiObjectName } from "../etcd/storage-key.js";
import { usageReport, type UsageReport } from "../etcd/usage-report.js";
import { VERSION } from "../version.js";
import { withCountProgress, type EtcdSource } from "./etcd-source.js";
import type { Operator } from "./operator.js";

/**
 * Counts what is stored under which key_id.
 * @param encryptionConfig path of kube-apiserver's EncryptionConfiguration.
 * @throws KmsError
 */
export async function reportUsage(
  etcd: EtcdSource,
  prefix: string,
  operator: Operator,
  encryptionConfig?: string,
): Promise<UsageReport> {
  const startedAt = new Date();
  const encryption =
    encryptionConfig === undefined ? undefined : readEncryptionConfiguration(encryptionConfig);
  const store = etcd.store(prefix);
  const census = await withCountProgress(prefix, operator, (observer) =>
    takeCensus(store, { prefix, observer }),
  );
  return usageReport(census.result(encryption && ((name) => isEncrypted(encryption, name))), {
    toolVersion: VERSION,
    startedAt,
    finishedAt: new Date(),
    source: etcd.source,
    prefix,
    revisions: store.revisions ?? { first: 0, last: 0 },
  });
}

/** Objects under a built-in name whose group is unknown, such as service IP ranges, count as not encrypted. */
function isEncrypted(
  encryption: EncryptionConfiguration,
  name: Pick<ApiObjectName, "group" | "resource">,
): boolean {
  if (name.group === undefined) return false;
  const [writer] = providersOfResource(encryption, resourceName(name)) ?? [];
  return writer !== undefined && writer.kind !== "identity";
}

// The objects of which a drill could not prove that a restored cluster can read them, by resource and reason: objects that
// another provider encrypted, and objects under a KEK that no token of the drill holds.
import type { Usage } from "../etcd/census-row.js";
import type { DrillReport } from "../evidence/drill-report.js";

type NotProven = DrillReport["notProven"][number];

const OTHER_PROVIDER =
  "another provider encrypted them, whose keys the drill does not have; keep a backup of kube-apiserver's EncryptionConfiguration";
const IN_CLEAR =
  "they are stored in clear, so that no key protects them, while others of the resource are encrypted";

/** Returns the unproven objects in the order of the resources. @param keks those that the snapshot needs */
export function notProven(usages: readonly Usage[], keks: DrillReport["keks"]): NotProven[] {
  const missing = new Set(keks.filter(({ found }) => !found).map(({ keyId }) => keyId));
  const encrypted = new Set(
    usages
      .filter(({ protection }) => protection === "kms-v2" || protection === "other-provider")
      .flatMap(({ resources }) => Object.keys(resources)),
  );
  const rows: NotProven[] = [];
  for (const { protection, provider, keyId, resources } of usages) {
    for (const [resource, objects] of Object.entries(resources)) {
      const row = { resource, objects, provider };
      if (protection === "other-provider") rows.push({ ...row, reason: OTHER_PROVIDER });
      else if (protection === "plaintext" && encrypted.has(resource)) {
        rows.push({ ...row, provider: "identity", reason: IN_CLEAR });
      } else if (keyId !== null && missing.has(keyId)) {
        const reason = `no token of the drill holds the KEK ${keyId}; if another plugin serves this provider, rehearse with its token`;
        rows.push({ ...row, reason });
      }
    }
  }
  const orderOf = ({ resource, provider }: NotProven): string => `${resource}\0${provider}`;
  return rows.sort((one, other) => (orderOf(one) < orderOf(other) ? -1 : 1));
}

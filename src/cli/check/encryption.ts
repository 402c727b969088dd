// The part of `kms-pkcs11 check` that looks at the cluster's side: kube-apiserver's EncryptionConfiguration, and
// whether it fits this plugin, its token's speed and, by the report of a census, what etcd holds.
import { adviseOnEncryption, type StoredUnder } from "../../config/encryption-advice.js";
import { readEncryptionConfiguration } from "../../config/encryption-configuration.js";
import type { Settings } from "../../config/settings.js";
import { readUsageReport } from "../../etcd/usage-report.js";
import { KmsError } from "../../errors.js";
import type { Report } from "./findings.js";

export function checkEncryption(
  path: string,
  usageReport: string | undefined,
  settings: Settings,
  p99Ms: number | undefined,
  report: Report,
): void {
  try {
    const advice = adviseOnEncryption(readEncryptionConfiguration(path), {
      socket: settings.socket,
      requestTimeoutMs: settings.hsm.requestTimeoutMs,
      p99Ms,
      stored: usageReport === undefined ? undefined : storedUnder(usageReport),
    });
    for (const { verdict, text } of advice) {
      if (verdict === "fail") report.fail("encryption", new KmsError("CONFIG_INVALID", text));
      else report.add(verdict, "encryption", text);
    }
  } catch (error) {
    report.fail("encryption", error);
  }
}

/** What a census of etcd found. @throws KmsError CONFIG_INVALID */
function storedUnder(path: string): StoredUnder[] {
  return readUsageReport(path)
    .usages.filter(({ protection }) => protection !== "unreadable")
    .flatMap(({ provider, resources }) =>
      Object.entries(resources)
        .filter(([resource]) => /^[a-z]/.test(resource))
        .map(([resource, objects]) => ({
          resource,
          prefix: provider === "" ? "" : `k8s:enc:${provider}:`,
          objects,
        })),
    );
}

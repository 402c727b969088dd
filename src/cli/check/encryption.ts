// The part of `kms-pkcs11 check` for the cluster: whether kube-apiserver's EncryptionConfiguration fits this plugin,
// the speed of its token and, with a usage report, the objects in etcd.
import { adviseOnEncryption, type StoredUnder } from "../../config/encryption-advice.js";
import { readEncryptionConfiguration } from "../../config/encryption-configuration.js";
import type { Settings } from "../../config/settings.js";
import { readUsageReport } from "../../etcd/usage-report.js";
import { KmsError } from "../../errors.js";
import type { Report } from "./findings.js";

/** Adds findings about the EncryptionConfiguration at `path` to the report. */
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

/** Returns the objects in a usage report by resource and prefix. @throws KmsError CONFIG_INVALID */
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

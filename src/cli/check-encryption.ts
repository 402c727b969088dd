// The part of `kms-pkcs11 check` that looks at the cluster's side: kube-apiserver's EncryptionConfiguration, and
// whether it fits this plugin and its token's speed.
import { adviseOnEncryption } from "../config/encryption-advice.js";
import { readEncryptionConfiguration } from "../config/encryption-configuration.js";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { Report } from "./findings.js";

export function checkEncryption(
  path: string,
  settings: Settings,
  p99Ms: number | undefined,
  report: Report,
): void {
  try {
    const advice = adviseOnEncryption(readEncryptionConfiguration(path), {
      socket: settings.socket,
      requestTimeoutMs: settings.hsm.requestTimeoutMs,
      p99Ms,
      stored: undefined,
    });
    for (const { verdict, text } of advice) {
      if (verdict === "fail") report.fail("encryption", new KmsError("CONFIG_INVALID", text));
      else report.add(verdict, "encryption", text);
    }
  } catch (error) {
    report.fail("encryption", error);
  }
}

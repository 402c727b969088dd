// What the API server gets: the two EncryptionConfigurations and the settings of the distribution that make it read
// them. `init` writes the settings where nothing reads them yet: the operator applies them when the plugin runs.
import { fill, readTemplate } from "./templates.js";
import type { Answers } from "./values.js";

const RESOURCES = /^ {6}- secrets$/m;
const DEFAULT_RESOURCES = ["secrets"];

/** Which of the two EncryptionConfigurations: the API server reads what the plugin encrypts, or also writes with it. */
export type EncryptionStep = "read" | "write";

/** Returns the text of an EncryptionConfiguration. */
export function encryptionText({ resources = DEFAULT_RESOURCES }: Answers, step: EncryptionStep): string {
  const name = step === "read" ? "encryption-configuration-read.yaml" : "encryption-configuration.yaml";
  // A resource such as *.* would be an alias without quotes.
  const lines = resources.map((one) => `      - ${one.startsWith("*") ? JSON.stringify(one) : one}`);
  return fill(readTemplate(name), RESOURCES, lines.join("\n"));
}

interface ApiServerSettings {
  readonly template: string;
  /** Where the file takes effect; undefined if its content has to be merged into another. */
  readonly target?: string;
}

const SETTINGS: Readonly<Partial<Record<Answers["distribution"], ApiServerSettings>>> = {
  kubeadm: { template: "kubeadm/cluster-configuration.yaml" },
  k3s: { template: "k3s/config.yaml", target: "/etc/rancher/k3s/config.yaml.d/kms-pkcs11.yaml" },
  rke2: { template: "rke2/config.yaml", target: "/etc/rancher/rke2/config.yaml.d/kms-pkcs11.yaml" },
};

/** Returns the distribution's settings for the API server; undefined if they are no file of the node (Talos). */
export function apiServerSettings({
  distribution,
}: Answers): (ApiServerSettings & { text: string }) | undefined {
  const settings = SETTINGS[distribution];
  return settings && { ...settings, text: readTemplate(settings.template) };
}

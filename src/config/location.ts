// Which configuration file is read. `--key` names a KEK without any file, so it is not mixed with a file that happens to
// be installed on the machine: with `--key`, only a file that was named is read.
import { statSync } from "node:fs";
import { invalid } from "./invalid.js";

export const DEFAULT_CONFIGURATION = "/etc/kms-pkcs11/config.yaml";
/** The manifest of the plugin's static pod, for kubeadm's kubelet and for RKE2's. */
export const POD_MANIFEST = "/etc/kubernetes/manifests/kms-pkcs11.yaml";
export const RKE2_POD_MANIFEST = "/var/lib/rancher/rke2/agent/pod-manifests/kms-pkcs11.yaml";
export const CONFIGURATION_VARIABLE = "KMS_PKCS11_CONFIG";

/** A configuration file, and what has chosen it. */
export interface Location {
  readonly path: string;
  readonly source: "--config" | "$KMS_PKCS11_CONFIG" | "default";
}

/** What the command line names. */
export interface Named {
  readonly config?: string | undefined;
  readonly key?: string | undefined;
  /** The flag of `key`, for the message; `--key` if omitted. */
  readonly keyFlag?: string;
}

/**
 * Returns the configuration file: --config, $KMS_PKCS11_CONFIG, or the default file if it exists and `--key` is not
 * given. Returns undefined if the KEK is named by `--key` alone.
 * @throws KmsError CONFIG_INVALID if neither a file nor a KEK is named
 */
export function locateConfiguration(
  { config, key, keyFlag = "--key" }: Named,
  env: NodeJS.ProcessEnv,
  defaultPath = DEFAULT_CONFIGURATION,
): Location | undefined {
  const location =
    namedConfiguration(config, env) ?? (key === undefined ? defaultFile(defaultPath) : undefined);
  if (location !== undefined || key !== undefined) return location;
  throw invalid(
    `no configuration: ${defaultPath} does not exist; create it, name another file with --config or $${CONFIGURATION_VARIABLE}, or name the KEK with ${keyFlag}`,
  );
}

/** Returns the file that the option or the environment names; undefined if neither does. */
export function namedConfiguration(config: string | undefined, env: NodeJS.ProcessEnv): Location | undefined {
  if (config !== undefined) return { path: config, source: "--config" };
  const path = env[CONFIGURATION_VARIABLE] ?? "";
  return path === "" ? undefined : { path, source: `$${CONFIGURATION_VARIABLE}` };
}

/** Returns the default file, even if this user may not read it: the error then comes from reading it. */
function defaultFile(path: string): Location | undefined {
  try {
    statSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
  }
  return { path, source: "default" };
}

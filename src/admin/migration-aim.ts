// Decides which resources `etcd migrate` brings under the active KEK: those of an EncryptionConfiguration, those that
// the caller lists, or by default secrets and every resource of which something is encrypted already.
import {
  providersOfResource,
  readEncryptionConfiguration,
  type EncryptionConfiguration,
} from "../config/encryption-configuration.js";
import { KmsError } from "../errors.js";
import type { EtcdStore } from "../etcd/store.js";
import { encryptedResources, takeSurvey, type Aim } from "../etcd/survey.js";

export interface AimOptions {
  readonly encryptionConfig?: string;
  readonly resources?: string;
  readonly prefix: string;
}

/** Returns which resources to migrate to a key_id. @throws KmsError CONFIG_INVALID; PEER_UNREACHABLE */
export async function aimOf(keyId: string, options: AimOptions, store: EtcdStore): Promise<Aim> {
  const { encryptionConfig, resources, prefix } = options;
  if (encryptionConfig !== undefined && resources !== undefined) {
    throw new KmsError("CONFIG_INVALID", "--encryption-config and --resources: give one of them");
  }
  if (encryptionConfig !== undefined) return configured(keyId, readEncryptionConfiguration(encryptionConfig));
  if (resources !== undefined) {
    return listed(
      keyId,
      resources.split(",").map((name) => name.trim()),
    );
  }
  const nothing = listed(keyId, []);
  return listed(keyId, ["secrets", ...encryptedResources(await takeSurvey(store, nothing, { prefix }))]);
}

function configured(keyId: string, configuration: EncryptionConfiguration): Aim {
  const providerOf = (resource: string): string | undefined => {
    const writer = providersOfResource(configuration, resource)?.[0];
    return writer?.kind === "kms" && writer.apiVersion === "v2" ? writer.name : undefined;
  };
  return { keyId, providerOf, encrypts: (resource) => providerOf(resource) !== undefined };
}

function listed(keyId: string, resources: readonly string[]): Aim {
  const wanted = new Set(resources);
  return { keyId, providerOf: () => undefined, encrypts: (resource) => wanted.has(resource) };
}

// The EncryptionConfiguration that kube-apiserver reads: which providers encrypt which resources. The first provider of
// a rule writes; to read, kube-apiserver selects a provider by the stored prefix.

import { randomBytes } from "node:crypto";
import { rename, writeFile } from "node:fs/promises";

export type Provider =
  | { readonly kms: { apiVersion: "v2"; name: string; endpoint: string; timeout: string } }
  | { readonly aescbc: { keys: { name: string; secret: string }[] } }
  | { readonly identity: Record<string, never> };

export interface EncryptionRule {
  /** Such as `secrets`, `configmaps`, `widgets.e2e.example.com`, `*.*`. */
  readonly resources: readonly string[];
  readonly providers: readonly Provider[];
}

/**
 * Returns the provider of the plugin on a socket. `timeout` is the deadline of each call, by default 3 s, as in
 * kube-apiserver.
 */
export function kmsProvider(socket: string, options: { name?: string; timeout?: string } = {}): Provider {
  const { name = "hsm", timeout = "3s" } = options;
  return { kms: { apiVersion: "v2", name, endpoint: `unix://${socket}`, timeout } };
}

/**
 * Returns an AES-CBC provider with a new key, which is part of the configuration. Keep the result to read with this
 * key.
 */
export function aescbcProvider(name = "key1"): Provider {
  return { aescbc: { keys: [{ name, secret: randomBytes(32).toString("base64") }] } };
}

/** Stores objects in clear. */
export const identityProvider: Provider = { identity: {} };

/** Replaces the file atomically, so that an API server that reloads it never reads an incomplete file. */
export async function writeEncryptionConfiguration(
  path: string,
  rules: readonly EncryptionRule[],
): Promise<void> {
  const configuration = {
    apiVersion: "apiserver.config.k8s.io/v1",
    kind: "EncryptionConfiguration",
    resources: rules,
  };
  await writeFile(`${path}.new`, JSON.stringify(configuration, null, 2), { mode: 0o600 });
  await rename(`${path}.new`, path);
}

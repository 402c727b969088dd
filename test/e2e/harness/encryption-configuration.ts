// The EncryptionConfiguration that kube-apiserver reads: which providers encrypt which resources. The
// first provider of a rule writes; all of them are tried, by the stored prefix, to read.

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

/** The plugin behind a socket. `timeout` is the deadline of each call, by default 3 s, as upstream. */
export function kmsProvider(socket: string, options: { name?: string; timeout?: string } = {}): Provider {
  const { name = "hsm", timeout = "3s" } = options;
  return { kms: { apiVersion: "v2", name, endpoint: `unix://${socket}`, timeout } };
}

/** AES-CBC with a new key in the configuration itself. Keep the result to read with the same key. */
export function aescbcProvider(name = "key1"): Provider {
  return { aescbc: { keys: [{ name, secret: randomBytes(32).toString("base64") }] } };
}

/** No encryption. */
export const identityProvider: Provider = { identity: {} };

/** Replaces the file in one step, so that an API server that reloads it never sees half of it. */
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

// The keyring as the operator's commands show and change it, and as stored objects use it.

import type { Etcd } from "./etcd.js";
import type { HsmToken } from "./hsm-token.js";
import type { CommandResult } from "../../support/plugin-process.js";
import { kmsPkcs11, kmsPkcs11Ok } from "./kms-pkcs11.js";
import type { Plugin } from "./plugin.js";
import { parseStoredObject } from "./stored-object.js";

export interface Rotated {
  /** The key_id of the new KEK. */
  readonly keyId: string;
  /** Its activation instant, in ms since the epoch. */
  readonly activation: number;
}

/** Runs `keys rotate` with these options. Throws for any exit code but 0. */
export async function rotateKek(token: HsmToken, ...options: string[]): Promise<Rotated> {
  const args = ["keys", "rotate", "--key", token.uri(), "-o", "json", ...options];
  const { created, activation } = JSON.parse(await kmsPkcs11Ok(args, token.env)) as {
    created: { keyId: string };
    activation: string;
  };
  return { keyId: created.keyId, activation: Date.parse(activation) };
}

/** Returns the value of `--nodes`. */
export function nodeUrls(plugins: readonly Plugin[]): string {
  return plugins.map(({ places }) => `http://${places.http}`).join(",");
}

/** Runs `keys list --nodes`, which shows whether the plugins agree with each other. */
export function compareNodes(plugins: readonly Plugin[]): Promise<CommandResult> {
  return kmsPkcs11(["keys", "list", "--nodes", nodeUrls(plugins)]);
}

/** Returns the key_id under which each Secret of a namespace is stored, by name. */
export async function storedKeyIds({ store }: Etcd, namespace: string): Promise<Map<string, string>> {
  const prefix = `/registry/secrets/${namespace}/`;
  const entries = await store.list(prefix);
  return new Map(
    entries.map(({ key, value }) => [
      key.slice(prefix.length),
      parseStoredObject(value)?.keyId ?? "in clear",
    ]),
  );
}

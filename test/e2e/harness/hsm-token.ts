// What a plugin needs to know of a token, whichever stands behind it, and the making of the KEK on it.

import { kmsPkcs11Ok } from "./kms-pkcs11.js";

export interface HsmToken {
  /** What a process needs in its environment to see the token. */
  readonly env: Readonly<Record<string, string>>;
  /** The PKCS#11 URI of a key on the token, with its module and the file of the PIN. */
  uri(object?: string): string;
}

/** Makes a KEK with `kms-pkcs11 keys create`, as an operator would. */
export async function createKek(token: HsmToken): Promise<void> {
  await kmsPkcs11Ok(["keys", "create", "--key", token.uri()], token.env);
}

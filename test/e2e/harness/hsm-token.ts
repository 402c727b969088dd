// What a plugin must know about a token, whatever its library, and how the KEK is made on it.

import { kmsPkcs11Ok } from "./kms-pkcs11.js";

export interface HsmToken {
  /** The environment variables that a process needs to find the token. */
  readonly env: Readonly<Record<string, string>>;
  /** Returns the PKCS#11 URI of a key on the token, including its module and PIN file. */
  uri(object?: string): string;
}

/** Makes a KEK with `kms-pkcs11 keys create`, as an operator would. */
export async function createKek(token: HsmToken): Promise<void> {
  await kmsPkcs11Ok(["keys", "create", "--key", token.uri()], token.env);
}

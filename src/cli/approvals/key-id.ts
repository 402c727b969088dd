// The key_id of a KEK in an option of `approvals`. Nodes compare it with whole key_ids, so a prefix or an example would
// permit nothing after everybody has signed it.
import { invalid } from "../../config/invalid.js";
import { isKeyId } from "../../hsm/key-id.js";

/** Requires a whole key_id. @throws KmsError CONFIG_INVALID */
export function requireKeyId(option: string, text: string): void {
  if (isKeyId(text)) return;
  throw invalid(`${option}: "${text}" is not a whole key_id; copy it from 'kms-pkcs11 keys list -o json'`);
}

// Asks the operator to type the key_id before a command destroys a KEK.
import { KmsError } from "../../errors.js";
import { askLine } from "../ask-line.js";

/**
 * Prompts the operator on the terminal to type the key_id. Returns false if there is no terminal to prompt on.
 * @throws KmsError TOKEN_REFUSED when a different key_id is typed; CANCELLED when none is typed
 */
export async function confirmKeyId(keyId: string): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  const typed = await askLine(`Type the key_id to destroy it:\n`);
  if (typed === undefined) throw new KmsError("CANCELLED", "no key_id was typed; nothing was destroyed");
  if (typed.trim() === keyId) return true;
  throw new KmsError("TOKEN_REFUSED", "another key_id was typed; nothing was destroyed");
}

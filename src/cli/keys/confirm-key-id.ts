// Asks the operator to type the key_id before a command destroys a KEK. The prompt may wait forever, so every check
// made before it has to be repeated after it.
import { createInterface } from "node:readline/promises";
import { KmsError } from "../../errors.js";

/**
 * Prompts the operator on the terminal to type the key_id. Returns false if there is no terminal to prompt on.
 * @throws KmsError TOKEN_REFUSED when a different key_id is typed; CANCELLED when none is typed
 */
export async function confirmKeyId(keyId: string): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  // Ctrl-C and Ctrl-D fail the question; the end of the input only closes the terminal.
  const ended = new Promise<undefined>((resolve) => {
    terminal.once("close", () => {
      resolve(undefined);
    });
  });
  const answer = terminal.question(`Type the key_id to destroy it:\n`).catch(() => undefined);
  const typed = await Promise.race([answer, ended]);
  terminal.close();
  if (typed === undefined) throw new KmsError("CANCELLED", "no key_id was typed; nothing was destroyed");
  if (typed.trim() === keyId) return true;
  throw new KmsError("TOKEN_REFUSED", "another key_id was typed; nothing was destroyed");
}

// Asks the operator to type the key_id before a command destroys a KEK.
import type { Confirm } from "../../admin/destroy-kek.js";
import type { ViewedKey } from "../../admin/keyring-view.js";
import { KmsError } from "../../errors.js";
import { askLine } from "../ask-line.js";

/** Returns what asks on the terminal; undefined if there is none. */
export function confirmation(): Confirm | undefined {
  return process.stdin.isTTY ? confirmKeyId : undefined;
}

/** @throws KmsError TOKEN_REFUSED when a different key_id is typed; CANCELLED when none is typed */
async function confirmKeyId(key: ViewedKey, shown: string): Promise<void> {
  const { keyId } = key.record;
  const typed = (await askLine(`${describe(key, shown)}\nType the key_id to destroy it:\n`))?.trim();
  if (typed === keyId) return;
  if (typed === undefined) throw new KmsError("CANCELLED", "no key_id was typed; nothing was destroyed");
  const what =
    typed !== "" && keyId.startsWith(typed)
      ? "only the beginning of the key_id was typed, and all of it is needed"
      : "another key_id was typed";
  throw new KmsError("TOKEN_REFUSED", `${what}; nothing was destroyed`);
}

function describe({ record, state, activation, holders }: ViewedKey, shown: string): string {
  const instant =
    activation === undefined || !Number.isFinite(activation)
      ? ""
      : `, ${state === "standby" ? "activates" : "activated"} ${new Date(activation).toISOString()}`;
  return [
    `KEK      "${record.label}", ${state}${instant}`,
    `key_id   ${record.keyId}`,
    `tokens   ${holders.join(", ")}`,
    `because  ${shown}`,
    ...(state === "standby" ? [] : ["What is encrypted under it can never be read again."]),
  ].join("\n");
}

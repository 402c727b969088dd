// Whether a KEK may be destroyed: the one place that decides that nothing needs it any more. Every kind of proof
// adds its option and its answer here; without one the caller has to write the key_id out.
import type { Command } from "commander";
import { KmsError } from "../errors.js";
import type { KekRecord } from "../hsm/wire.js";

export interface DisuseOptions {
  readonly iUnderstandDataIsLost?: string;
}

export function addDisuseOptions(command: Command): Command {
  return command.option(
    "--i-understand-data-is-lost <key_id>",
    "the key_id once more, instead of a proof: whatever it still protects is lost",
  );
}

/**
 * Returns what shows that the KEK is not needed, for the log.
 * @param record the KEK; stored objects may name it by its key_id or by one of its aliases
 * @throws KmsError TOKEN_REFUSED when nothing shows it
 */
export function requireDisuse(record: KekRecord, options: DisuseOptions): Promise<string> {
  const { keyId } = record;
  const written = options.iUnderstandDataIsLost;
  if (written === keyId) return Promise.resolve("the caller's word that the data under it is lost");
  const refusal =
    written === undefined
      ? `nothing shows that no object is under ${keyId} any more; if that is known, add --i-understand-data-is-lost ${keyId}`
      : "--i-understand-data-is-lost names another key_id; nothing was destroyed";
  return Promise.reject(new KmsError("TOKEN_REFUSED", refusal));
}

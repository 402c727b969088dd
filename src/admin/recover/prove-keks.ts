// Proves every KEK on every token with a round trip, for commands that conclude something from a decryption that failed.
import { schedulePolicy } from "../../compose/provider.js";
import type { Settings } from "../../config/settings.js";
import { readSchedule } from "../../provider/generations.js";
import { Prover } from "../../provider/prover.js";
import { SILENT, type Token } from "../command-tokens.js";

/**
 * Proves the KEKs of every token that could be read. Returns why KEKs fail their proof, by key_id and aliases.
 * @throws KmsError if a token is away now
 */
export async function failedProofs(
  tokens: readonly Token[],
  settings: Settings,
): Promise<ReadonlyMap<string, string>> {
  const failures = new Map<string, string>();
  for (const { name, hsm, records } of tokens) {
    if (records === undefined) continue;
    const { generations } = readSchedule(records, schedulePolicy(settings));
    const prover = new Prover(hsm, settings.mechanism, SILENT);
    await prover.prove(generations, undefined);
    for (const { record } of generations) {
      const { failure, provenAt } = prover.proofOf(record.keyId);
      if (failure === undefined && provenAt !== undefined) continue;
      const reason = `the KEK ${record.keyId} is not proven on ${name}: ${failure?.message ?? "the token is overloaded"}`;
      for (const keyId of [record.keyId, ...record.aliases]) failures.set(keyId, reason);
    }
  }
  return failures;
}

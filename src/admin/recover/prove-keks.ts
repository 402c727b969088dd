// Proves every KEK on every token, for commands that draw conclusions from a failed decryption. The proof is a round trip or,
// for a KEK that may only decrypt, the decryption of a stored seed.
import { schedulePolicy } from "../../compose/provider.js";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import { readSchedule } from "../../provider/generations.js";
import { Prover } from "../../provider/prover.js";
import { SILENT, type Token } from "../command-tokens.js";
import type { Operator } from "../operator.js";
import { proveByStoredSeed } from "../stored-proof.js";
import type { StoredSeeds } from "./stored-seeds.js";

/** A KEK that is not proven on a token. */
export interface UnprovenKek {
  readonly keyId: string;
  /** The token's name. */
  readonly token: string;
  readonly reason: string;
  /** Whether a stored object may be under it. */
  readonly isNeeded: boolean;
}

export interface KekProofs {
  readonly unproven: readonly UnprovenKek[];
  /** Why KEKs that stored objects may need fail their proof, by key_id and aliases. */
  readonly failures: ReadonlyMap<string, string>;
}

export const NO_PROOFS: KekProofs = { unproven: [], failures: new Map() };

/**
 * Proves the KEKs of every token that could be read.
 * @throws KmsError if a token is away now
 */
export async function proveKeks(
  tokens: readonly Token[],
  seeds: StoredSeeds,
  settings: Settings,
  operator: Operator,
): Promise<KekProofs> {
  const failures = new Map<string, string>();
  const unproven: UnprovenKek[] = [];
  for (const token of tokens) {
    const { name, hsm, records } = token;
    if (records === undefined) continue;
    const { generations } = readSchedule(records, schedulePolicy(settings));
    const prover = new Prover(hsm, settings.mechanism, SILENT);
    await prover.prove(generations, undefined);
    for (const { record } of generations) {
      const { failure, provenAt } = prover.proofOf(record.keyId);
      if (failure === undefined && provenAt !== undefined) continue;
      const stored = seeds.decryptedUnder(record);
      const still = stored && (await proveByStoredSeed(token, stored, settings, operator));
      if (stored !== undefined && still === undefined) continue;
      const why = [failure?.message ?? "the token is overloaded", ...(still === undefined ? [] : [still])];
      const reason = `the KEK ${record.keyId} is not proven on ${name}: ${why.join("; ")}`;
      const isNeeded = seeds.mayNeed(record);
      unproven.push({ keyId: record.keyId, token: name, reason, isNeeded });
      if (isNeeded) for (const keyId of [record.keyId, ...record.aliases]) failures.set(keyId, reason);
    }
  }
  return { unproven, failures };
}

/** Requires a proof of every KEK that an object may need. @throws KmsError KEY_UNSUITABLE */
export function requireNoFailure({ failures }: KekProofs, consequence: string): void {
  const [failure] = failures.values();
  if (failure !== undefined) throw new KmsError("KEY_UNSUITABLE", `${failure}; ${consequence}`);
}

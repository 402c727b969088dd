// Checks one object in etcd again, with freshly proven KEKs, immediately before it is deleted.
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import type { ObjectStore } from "../../etcd/store.js";
import type { UnreadableObject } from "../../etcd/unreadable.js";
import { readAgain, requireAll, type Token } from "../command-tokens.js";
import type { Operator } from "../operator.js";
import { verifyObject } from "../verify-stored.js";
import { withProviderOn } from "../with-provider.js";
import { proveKeks, requireNoFailure, type UnprovenKek } from "./prove-keks.js";
import type { StoredSeeds } from "./stored-seeds.js";

/** The tokens that decrypt the objects, and the seeds that prove their KEKs. */
export interface RecheckPorts {
  readonly tokens: readonly Token[];
  readonly seeds: StoredSeeds;
  readonly settings: Settings;
  readonly operator: Operator;
}

export type Recheck =
  | { readonly kind: "unreadable"; readonly object: UnreadableObject }
  | { readonly kind: "gone" }
  | { readonly kind: "changed"; readonly reason: string };

const NOTHING = "nothing further was deleted";

/**
 * Reads every token again. Requires that each can be read, and that every KEK that an object may need works on it.
 * @param reloaded whether to reload the libraries first
 * @returns the tokens, and the KEKs that are not proven and that no object needs
 * @throws KmsError of a token that is away; KEY_UNSUITABLE of a KEK that fails its proof
 */
export async function requireProven(
  { tokens, seeds, settings, operator }: RecheckPorts,
  reloaded: boolean,
): Promise<{ readonly now: readonly Token[]; readonly unproven: readonly UnprovenKek[] }> {
  const now = await readAgain(tokens, reloaded);
  requireAll(now, NOTHING);
  const empty = now.find(({ records }) => records?.length === 0);
  if (empty !== undefined) throw new KmsError("KEY_MISSING", `${empty.name} holds no KEK; ${NOTHING}`);
  const proofs = await proveKeks(now, seeds, settings, operator);
  requireNoFailure(proofs, NOTHING);
  return { now, unproven: proofs.unproven };
}

/**
 * Reads the object again, and tries to decrypt it.
 * @param modRevision at which it was unreadable
 * @throws KmsError if etcd or a token is away, or a KEK fails its proof
 */
export async function recheck(
  { key, modRevision }: Pick<UnreadableObject, "key" | "modRevision">,
  ports: RecheckPorts & { readonly store: ObjectStore; readonly prefix: string },
): Promise<Recheck> {
  const { store, prefix, settings, operator } = ports;
  const { now } = await requireProven(ports, false);
  const stored = await store.object(key);
  if (stored === undefined) return { kind: "gone" };
  if (stored.modRevision !== modRevision) {
    return { kind: "changed", reason: `it was written again, at revision ${stored.modRevision}` };
  }
  return withProviderOn(now, settings, operator, async (provider) => {
    const object = await verifyObject(provider, stored, prefix);
    return object === undefined
      ? { kind: "changed", reason: "it can be decrypted now" }
      : { kind: "unreadable", object };
  });
}

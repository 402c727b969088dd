// Looks at one object of etcd again, immediately before it would be deleted: with the tokens as they are now.
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import type { ObjectStore } from "../../etcd/store.js";
import type { UnreadableObject } from "../../etcd/unreadable.js";
import { readAgain, requireAll, type Token } from "../command-tokens.js";
import type { Operator } from "../operator.js";
import { verifyObject } from "../verify-stored.js";
import { withProviderOn } from "../with-provider.js";
import { failedProofs } from "./prove-keks.js";

export type Recheck =
  | { readonly kind: "unreadable"; readonly object: UnreadableObject }
  | { readonly kind: "gone" }
  | { readonly kind: "changed"; readonly reason: string };

const NOTHING = "nothing further was deleted";

/**
 * Reads every token again and requires that it can be read and that every KEK on it works.
 * @param reloaded whether to reload the libraries first
 * @throws KmsError of a token that is away; KEY_UNSUITABLE of a KEK that fails its proof
 */
export async function requireProven(
  tokens: readonly Token[],
  settings: Settings,
  reloaded: boolean,
): Promise<readonly Token[]> {
  const now = await readAgain(tokens, reloaded);
  requireAll(now, NOTHING);
  const empty = now.find(({ records }) => records?.length === 0);
  if (empty !== undefined) throw new KmsError("KEY_MISSING", `${empty.name} holds no KEK; ${NOTHING}`);
  const [failure] = (await failedProofs(now, settings)).values();
  if (failure !== undefined) throw new KmsError("KEY_UNSUITABLE", `${failure}; ${NOTHING}`);
  return now;
}

/**
 * Reads the object again, and tries to decrypt it.
 * @param modRevision at which it was unreadable
 * @throws KmsError if etcd or a token is away, or a KEK fails its proof
 */
export async function recheck(
  { key, modRevision }: Pick<UnreadableObject, "key" | "modRevision">,
  { store, prefix }: { readonly store: ObjectStore; readonly prefix: string },
  tokens: readonly Token[],
  settings: Settings,
  operator: Operator,
): Promise<Recheck> {
  const now = await requireProven(tokens, settings, false);
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

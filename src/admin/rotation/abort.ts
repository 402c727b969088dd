// Takes a rotation back while that is possible: a standby KEK before its instant, which no node has used. What is active
// cannot be taken back; it can only be replaced by the next rotation.
import { schedulePolicy } from "../../compose/provider.js";
import { KmsError } from "../../errors.js";
import { requireAll, withTokens, type Token } from "../command-tokens.js";
import type { Destroyed } from "../destroy-kek.js";
import type { KeyReference } from "../key-reference.js";
import { findNamedKey, viewKeyring, type KeyringView, type ViewedKey } from "../keyring-view.js";
import { unknownKek } from "../require-unneeded.js";
import { destroyOne, type DestroyingOrder } from "./destroy.js";

export interface AbortOrder extends DestroyingOrder {
  /** Undefined for the only standby KEK. */
  readonly reference: KeyReference | undefined;
}

/**
 * Destroys a standby KEK, after asking, if every node shows that it never used it.
 * @throws KmsError TOKEN_REFUSED if nothing can be taken back, with the reason; KEY_UNKNOWN for a key_id that no token shows;
 *   KEY_AMBIGUOUS if several KEKs are standby and none is named
 */
export async function takeBack(order: AbortOrder): Promise<Destroyed> {
  const { settings, operator, reference } = order;
  return withTokens(settings, operator, async (tokens) => {
    requireAll(tokens, "nothing was destroyed");
    const view = viewKeyring(tokens, schedulePolicy(settings), Date.now());
    const key = reference === undefined ? onlyStandby(view) : namedKey(reference, view, tokens);
    if (key?.state !== "standby") throw irrevocable(view, key);
    for (const line of consequences(key, view)) operator.notify(line);
    return destroyOne(order, tokens, key.record.keyId);
  });
}

function namedKey(reference: KeyReference, view: KeyringView, tokens: readonly Token[]): ViewedKey {
  const key = findNamedKey("[key_id]", reference, view, tokens);
  if (key === undefined) throw unknownKek(reference);
  return key;
}

function onlyStandby({ keys }: KeyringView): ViewedKey | undefined {
  const [only, ...others] = keys.filter(({ state }) => state === "standby");
  if (others.length === 0) return only;
  const names = [only, ...others].map((key) => key?.record.keyId ?? "").join(", ");
  throw new KmsError("KEY_AMBIGUOUS", `several KEKs are standby: ${names}; name the one to cancel`);
}

function consequences({ record, activation }: ViewedKey, { active }: KeyringView): string[] {
  const at = activation === undefined ? "" : ` at ${new Date(activation).toISOString()}`;
  return [
    `to be destroyed on every token: "${record.label}" (key_id ${record.keyId}), which would become active${at}`,
    `unchanged: ${active === undefined ? "no KEK" : `"${active.record.label}" (key_id ${active.record.keyId})`} stays active`,
  ];
}

function irrevocable({ active }: KeyringView, key: ViewedKey | undefined): KmsError {
  const concerned = key ?? active;
  if (concerned === undefined) {
    return new KmsError("TOKEN_REFUSED", "no KEK is standby; nothing was destroyed");
  }
  const { record, state, activation } = { state: "active", ...concerned };
  const since = activation === undefined ? "" : ` since ${new Date(activation).toISOString()}`;
  const what = `"${record.label}" (key_id ${record.keyId}) is ${state}${Number.isFinite(activation) ? since : ""}`;
  return new KmsError(
    "TOKEN_REFUSED",
    `only a standby KEK can be taken back, and ${what}: objects may be under it, and they stay; ` +
      `to replace it, run 'kms-pkcs11 rotation run --replace ${record.keyId}'; nothing was destroyed`,
  );
}

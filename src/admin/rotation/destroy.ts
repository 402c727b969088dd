// The steps of a rotation that destroy: a standby KEK that must not become active, and a retired one. The decision is
// made at the last moment by the code that `keys destroy` uses.
import { KmsError } from "../../errors.js";
import type { DestroyWindow } from "../../hsm/token-hsm.js";
import type { KekRecord } from "../../hsm/port.js";
import { withTokens, type Token } from "../command-tokens.js";
import { destroyKek, recordDestruction, type Destroyed } from "../destroy-kek.js";
import { abortRotation } from "../guarded-rotation.js";
import { nodesAfterDestroy, warningsAfterDestroy } from "../nodes-after-destroy.js";
import { requireChanged } from "../token-changes.js";
import type { RotationOrder } from "./order.js";
import type { RotationKek } from "./position.js";

/** What is needed to destroy one KEK. */
export type DestroyingOrder = Pick<
  RotationOrder,
  "settings" | "nodes" | "operator" | "approve" | "proof" | "reports" | "confirm"
>;

export interface LackedKek {
  readonly tokens: readonly Token[];
  readonly kek: KekRecord;
  /** Which tokens and nodes lack it. */
  readonly reason: string;
  /** The time in which it is certainly unused, if this run made it; undefined if every node has to say that it is. */
  readonly window: DestroyWindow | undefined;
}

/**
 * Destroys a standby KEK that a token or node lacks. Returns the error that ends the run: the rotation was aborted, or why
 * the KEK could not be destroyed.
 */
export async function destroyStandby(order: DestroyingOrder, lacked: LackedKek): Promise<KmsError> {
  const { tokens, kek, reason, window } = lacked;
  const { keyId, label } = kek;
  try {
    if (window === undefined) await destroyUnused(order, tokens, keyId);
    else requireChanged(await abortRotation({ ...order, made: kek, tokens }, reason, window), "destroyed");
    return new KmsError("KEY_UNSUITABLE", `rotation aborted, ${keyId} was destroyed: ${reason}`);
  } catch (error) {
    const { code, message } = KmsError.from(error);
    const text = `${reason}; "${label}" (key_id ${keyId}) was not destroyed: ${message}`;
    return new KmsError(code, text, error);
  }
}

/** --abort-unless-converged is the consent, and there is no time for a search of etcd. */
async function destroyUnused(order: DestroyingOrder, tokens: readonly Token[], keyId: string): Promise<void> {
  const proof = { ...order.proof, reports: () => Promise.resolve([]) };
  await destroyOne({ ...order, proof, confirm: undefined }, tokens, keyId);
}

/** Destroys a retired KEK if nothing needs it, and returns the proof in one line. @throws KmsError if it may not go */
export async function retireKek(order: DestroyingOrder, { keyIds, label }: RotationKek): Promise<string> {
  const [keyId] = keyIds;
  const { settings, operator } = order;
  try {
    const { proof } = await withTokens(settings, operator, (tokens) => destroyOne(order, tokens, keyId));
    return `destroyed "${label}" (key_id ${keyId}): ${proof}`;
  } catch (error) {
    if (KmsError.from(error).code !== "KEY_UNKNOWN") throw error;
    return `"${label}" (key_id ${keyId}) is on no token any more`;
  }
}

/** Destroys one KEK on every token, records it, and asks the nodes afterwards. @throws KmsError */
export async function destroyOne(
  order: DestroyingOrder,
  tokens: readonly Token[],
  keyId: string,
): Promise<Destroyed> {
  const { settings, nodes, operator } = order;
  const destroyed = await recordDestruction(settings, operator, keyId, (begin) =>
    destroyKek({ ...order, tokens, reference: { kind: "key_id", text: keyId }, begin }),
  );
  requireChanged(destroyed.changes, "destroyed");
  const after = await nodesAfterDestroy(nodes, [keyId, ...destroyed.key.record.aliases]);
  for (const warning of warningsAfterDestroy(after, keyId)) operator.notify(`warning: ${warning}`);
  return destroyed;
}

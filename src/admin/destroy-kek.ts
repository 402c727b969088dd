// Destroys a KEK on every token that holds it: lets require-unneeded.ts decide before it asks for confirmation and again
// afterwards, records the intent, destroys, and checks the result.
import type { Settings } from "../config/settings.js";
import type { ApprovalCheck } from "./approval-check.js";
import type { Token } from "./command-tokens.js";
import { destroyOn } from "./destroy-on-tokens.js";
import { copiesOf, type CopyOnToken } from "./kek-copies.js";
import { parseKeyReference, type KeyReference } from "./key-reference.js";
import { findNamedKey, type KeyringView, type ViewedKey } from "./keyring-view.js";
import { audited, type Begin } from "./operator-audit.js";
import type { Operator } from "./operator.js";
import { requireDestroyable, requireUnneeded, type DisuseProof } from "./require-unneeded.js";
import { changeEvent, type Changes } from "./token-changes.js";

/**
 * Asks the operator whether to destroy a KEK; undefined if there is nobody to ask.
 * @param shown what shows that the KEK is not needed
 * @throws KmsError when it is declined
 */
export type Confirm = (key: ViewedKey, shown: string) => Promise<void>;

export interface DestroyOrder {
  readonly settings: Settings;
  readonly tokens: readonly Token[];
  readonly reference: KeyReference;
  readonly nodes: readonly URL[];
  readonly proof: DisuseProof;
  readonly confirm: Confirm | undefined;
  /** Requires the approval of the policy, if there is one. */
  readonly approve?: ApprovalCheck;
  /** Digests of the usage reports in `proof`. */
  readonly reports?: readonly string[];
  readonly begin: Begin;
  readonly operator: Pick<Operator, "notify">;
}

export interface Destroyed {
  readonly key: ViewedKey;
  /** What showed that the KEK is not needed. */
  readonly proof: string;
  /** Other keys that can decrypt what is under it. */
  readonly copies: readonly CopyOnToken[];
  readonly changes: Changes;
}

/**
 * Decides, asks, and decides again; only decides if there is nobody to ask. Then records the intent and destroys. Failures
 * of single tokens are in the result.
 * @throws KmsError before any change, when the KEK may not be destroyed
 */
export async function destroyKek(order: DestroyOrder): Promise<Destroyed> {
  const { settings, tokens, reference, nodes, confirm, begin, operator } = order;
  const { key: named, view } = requireDestroyable(settings, tokens, reference, Date.now());
  // From here on use the key_id: "@retired" may come to name a different KEK.
  const { keyId } = named.record;
  const proof = { ...order.proof, left: departedKey(order.proof.left, view, tokens) };
  const question = { settings, tokens, keyId, nodes, proof, reloaded: false };
  // Nothing is under a standby KEK, and its instant may be near.
  const copies = named.state === "standby" ? [] : await copiesOf(named.record, tokens, operator);
  if (confirm !== undefined) {
    // Nobody should have to type a key_id for a KEK that is refused anyway.
    const { key, shown } = await requireUnneeded(question);
    await confirm(key, shown);
  }
  const reloaded = confirm !== undefined;
  const { key, shown, window } = await requireUnneeded({ ...question, reloaded });
  const { label, aliases } = key.record;
  const target = {
    operation: "destroy",
    names: [keyId, ...aliases],
    label,
    reports: order.reports ?? [],
  } as const;
  const approved = await order.approve?.(target);
  await begin({ keyId, details: { label, proof: shown, ...copiesIn(copies), ...approved } });
  return { key, proof: shown, copies, changes: await destroyOn(tokens, key.record, window) };
}

/** Returns what the audit log records about copies. */
function copiesIn(copies: readonly CopyOnToken[]): { readonly copies?: string } {
  if (copies.length === 0) return {};
  return { copies: copies.map(({ token, label }) => `"${label}" on ${token}`).join(", ") };
}

/**
 * Runs a destruction and records its outcome, even if it is refused.
 * @param keyId as the operator named the KEK
 * @param destroy calls destroyKek
 */
export function recordDestruction(
  settings: Settings,
  operator: Operator,
  keyId: string,
  destroy: (begin: Begin) => Promise<Destroyed>,
): Promise<Destroyed> {
  return audited(
    settings,
    operator,
    { operation: "keys destroy", keyId },
    destroy,
    ({ key: { record }, proof, copies, changes }) => {
      const { outcome, details } = changeEvent(changes);
      return {
        keyId: record.keyId,
        outcome,
        details: { label: record.label, proof, ...copiesIn(copies), ...details },
      };
    },
  );
}

/** Returns the key_id of the KEK that `--every-node-has-left` names. @throws KmsError CONFIG_INVALID */
function departedKey(
  written: string | undefined,
  view: KeyringView,
  tokens: readonly Token[],
): string | undefined {
  if (written === undefined) return undefined;
  const option = "--every-node-has-left";
  return findNamedKey(option, parseKeyReference(option, written), view, tokens)?.record.keyId ?? written;
}

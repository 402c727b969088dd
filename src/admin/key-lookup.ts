// Finds the key_ids that stored objects may carry for the KEKs that an operator names. A whole key_id needs no lookup;
// anything shorter is looked up on the tokens or nodes, never in etcd, where a missing match would prove nothing.
import { KmsError } from "../errors.js";
import { schedulePolicy } from "../compose/provider.js";
import type { Settings } from "../config/settings.js";
import { findReferenced, type KeyReference, type NamedKey } from "./key-reference.js";
import { findNamedKey, viewKeyring } from "./keyring-view.js";
import { readNode } from "./node-client.js";
import type { Operator } from "./operator.js";
import { withTokens } from "./command-tokens.js";

export interface NamedKek {
  /** The key_id, and others by which the same KEK may be stored. */
  readonly keyIds: readonly [string, ...string[]];
}

export interface LookupSources {
  /** Undefined if no token may be asked. */
  readonly settings: Settings | undefined;
  /** Asked only if no token may be. */
  readonly nodes: readonly URL[];
}

/**
 * Returns the key_ids of each KEK that a reference names.
 * @param what names the option in messages
 * @throws KmsError CONFIG_INVALID when a reference names no KEK, or there is neither token nor node to look it up
 */
export async function lookUpKeks(
  what: string,
  references: readonly KeyReference[],
  { settings, nodes }: LookupSources,
  operator: Operator,
): Promise<NamedKek[]> {
  if (references.length === 0) return [];
  if (settings !== undefined) return onTokens(what, references, settings, operator);
  const unclear = references.find(({ kind }) => kind !== "key_id");
  if (unclear === undefined) return references.map(({ text }) => ({ keyIds: [text] }));
  if (nodes.length > 0) return onNodes(what, references, nodes);
  throw new KmsError(
    "CONFIG_INVALID",
    `${what}: ${unclear.text} is not a whole key_id; give the one that 'keys list' shows, or --config, --kek or --nodes to look it up`,
  );
}

function onTokens(
  what: string,
  references: readonly KeyReference[],
  settings: Settings,
  operator: Operator,
): Promise<NamedKek[]> {
  return withTokens(settings, operator, (tokens) => {
    const view = viewKeyring(tokens, schedulePolicy(settings), Date.now());
    const keks = references.map((reference): NamedKek => {
      const found = findNamedKey(what, reference, view, tokens);
      // A destroyed KEK is on no token any more, but may still be asked about.
      if (found === undefined) return { keyIds: [reference.text] };
      const { keyId, aliases } = found.record;
      return { keyIds: [keyId, ...aliases] };
    });
    return Promise.resolve(keks);
  });
}

async function onNodes(
  what: string,
  references: readonly KeyReference[],
  nodes: readonly URL[],
): Promise<NamedKek[]> {
  const keyrings = await Promise.all(nodes.map((node) => readNode(node)));
  const keys = keyrings.flatMap((keyring) => keyring.keys);
  return references.map((reference) => {
    // The same key on several nodes counts once; it matches a state if any node reports that state.
    const named = new Map<string, NamedKey>();
    for (const { keyId, state } of keys) {
      if (reference.kind !== "state" || state === reference.state) {
        named.set(keyId, { keyIds: [keyId], state });
      }
    }
    const [keyId = reference.text] = findReferenced(what, reference, [...named.values()])?.keyIds ?? [];
    return { keyIds: [keyId] };
  });
}

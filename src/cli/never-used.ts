// What nodes say of a KEK that is to be destroyed. A standby one that none has used protects nothing and may go without
// a proof; the nodes have to say so themselves: this machine's clock may be behind theirs, and what it takes for standby
// may be active there. A retired one may still be active on a node whose clone lacks its successor.
import { KmsError } from "../errors.js";
import { readNode, type NodeKeyring } from "./node-client.js";

/** A standby KEK is destroyed this long before its instant at the latest, in ms, by the clock furthest ahead. */
export const CANCEL_MARGIN_MS = 10_000;

/** What all nodes say together. */
export interface NodesAnswer {
  /** For the log. */
  readonly statement: string;
  /** How far the clock that is furthest ahead is ahead of this machine's, in ms; negative when all are behind. */
  readonly aheadMs: number;
}

/**
 * Returns what shows that no node has used the KEK.
 * @param keyIds by which nodes may know it
 * @param activation its instant, ms since the epoch
 * @throws KmsError TOKEN_REFUSED when it is or soon will be used; PEER_UNREACHABLE when a node does not answer
 */
export async function requireNeverUsed(
  keyIds: readonly string[],
  activation: number,
  nodes: readonly URL[],
): Promise<NodesAnswer> {
  const aheadMs = await askAll(nodes, (keyring) => useOf(keyring, keyIds, activation));
  if (activation - Date.now() < CANCEL_MARGIN_MS)
    throw new KmsError(
      "TOKEN_REFUSED",
      `${keyIds[0] ?? ""} is about to become active; nothing was destroyed`,
    );
  return { statement: `standby, and used by none of ${namesOf(nodes)}`, aheadMs };
}

/**
 * Returns what shows that every node has left the KEK; undefined when no node is named.
 * @param keyIds by which nodes may know it
 * @throws KmsError TOKEN_REFUSED when one encrypts under it, or under nothing yet; PEER_UNREACHABLE when one does not
 *   answer
 */
export async function requireLeft(
  keyIds: readonly string[],
  nodes: readonly URL[],
): Promise<NodesAnswer | undefined> {
  if (nodes.length === 0) return undefined;
  const aheadMs = await askAll(nodes, ({ activeKeyId, publishedKeyId }) => {
    const current = [activeKeyId, publishedKeyId].find((keyId) => keyId === null || keyIds.includes(keyId));
    if (current === null) return "no KEK is active there, so that nobody can tell which one will be;";
    if (current === undefined) return undefined;
    return `${current} is active there; does that node lack its successor?`;
  });
  return { statement: `active on none of ${namesOf(nodes)}`, aheadMs };
}

function namesOf(nodes: readonly URL[]): string {
  return nodes.map(({ href }) => href).join(", ");
}

/**
 * Returns how far the clock that is furthest ahead is ahead of this machine's, in ms.
 * @param objection why nothing may be destroyed, with its stop; undefined where nothing speaks against it
 * @throws KmsError TOKEN_REFUSED with the first node's objection; PEER_UNREACHABLE when one does not answer
 */
async function askAll(
  nodes: readonly URL[],
  objection: (keyring: NodeKeyring) => string | undefined,
): Promise<number> {
  const keyrings = await Promise.all(nodes.map((node) => readNode(node)));
  keyrings.forEach((keyring, index) => {
    const reason = objection(keyring);
    if (reason !== undefined)
      throw new KmsError("TOKEN_REFUSED", `${nodes[index]?.href ?? ""}: ${reason} nothing was destroyed`);
  });
  return Math.max(...keyrings.map(({ clockAheadMs }) => clockAheadMs));
}

/** An objection of `askAll`'s. */
function useOf(
  { activeKeyId, publishedKeyId, keys, now }: NodeKeyring,
  keyIds: readonly string[],
  activation: number,
): string | undefined {
  const inUse = keyIds.find((keyId) => keyId === activeKeyId || keyId === publishedKeyId);
  if (inUse !== undefined) return `${inUse} is active there;`;
  const superseded = keys.find(({ keyId, state }) => keyIds.includes(keyId) && state !== "standby");
  if (superseded !== undefined) return `${superseded.keyId} is not standby there;`;
  if (activation - Date.parse(now) < CANCEL_MARGIN_MS)
    return `${keyIds[0] ?? ""} is due by its clock, ${now};`;
  return undefined;
}

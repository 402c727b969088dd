// What every node must report before a KEK may be destroyed. A standby KEK that no node has used protects nothing and
// needs no proof; only the nodes can say so, since this machine's clock may be behind theirs and the KEK may be active
// there. A retired KEK may still be active on a node whose token lacks its successor. A wrong clock makes the reports
// worthless.
import { KmsError } from "../errors.js";
import { mayBe, type AskedKek } from "./asked-kek.js";
import { clockDifferences, slowestBehindMs } from "./clocks.js";
import { readNode, type NodeKeyring } from "./node-client.js";
import { presentUse, uncertainUseOf, type UncertainUse } from "./node-use.js";

/** A standby KEK may be destroyed until this long before its activation, in ms, by the clock furthest ahead. */
export const CANCEL_MARGIN_MS = 10_000;

/** The combined answer of all nodes. */
export interface NodesAnswer {
  /** For the log. */
  readonly statement: string;
  /** How far the clock that is furthest ahead is ahead of this machine's, in ms; negative when all are behind. */
  readonly aheadMs: number;
  /** How far the slowest clock is behind this machine's, in ms; 0 when none is. */
  readonly behindMs: number;
  /** Of the node that may have used the KEK last; undefined when every node shows that it never used it. */
  readonly uncertainUse: UncertainUse | undefined;
}

/**
 * Returns what shows that no node uses a standby KEK, and whether an earlier use is uncertain.
 * @param activation ms since the epoch
 * @throws KmsError TOKEN_REFUSED when a node uses it or soon will, or a clock is wrong; PEER_UNREACHABLE when a node
 *   does not answer
 */
export async function requireUnusedNow(
  kek: AskedKek,
  activation: number,
  nodes: readonly URL[],
): Promise<NodesAnswer> {
  const answer = await requireOfEveryNode(nodes, kek, (keyring) => useOf(keyring, kek, activation));
  if (activation - Date.now() < CANCEL_MARGIN_MS) {
    throw new KmsError(
      "TOKEN_REFUSED",
      `${kek.keyIds[0] ?? ""} is about to become active; nothing was destroyed`,
    );
  }
  return { statement: `standby, and used by none of ${namesOf(nodes)}`, ...answer };
}

/**
 * Returns what shows that every node has left the KEK; undefined if no node is given.
 * @throws KmsError TOKEN_REFUSED when a node encrypts under it, or under nothing yet, or a clock is wrong;
 *   PEER_UNREACHABLE when a node does not answer
 */
export async function requireLeft(kek: AskedKek, nodes: readonly URL[]): Promise<NodesAnswer | undefined> {
  if (nodes.length === 0) return undefined;
  const answer = await requireOfEveryNode(nodes, kek, (keyring) => {
    const use = presentUse(keyring, kek);
    if (use !== undefined) return `${use}; that node may lack its successor`;
    if (keyring.publishedKeyId !== null) return undefined;
    return "no KEK is active there until a Status call, so it is unknown which one will be; run 'kms-pkcs11 status' on that node;";
  });
  return { statement: `active on none of ${namesOf(nodes)}`, ...answer };
}

function namesOf(nodes: readonly URL[]): string {
  return nodes.map(({ href }) => href).join(", ");
}

/**
 * Asks every node at the same time and requires that none objects.
 * @param objection returns why nothing may be destroyed, including punctuation; undefined without an objection
 * @throws KmsError TOKEN_REFUSED with the first node's objection; PEER_UNREACHABLE when a node does not answer
 */
async function requireOfEveryNode(
  nodes: readonly URL[],
  kek: AskedKek,
  objection: (keyring: NodeKeyring) => string | undefined,
): Promise<Omit<NodesAnswer, "statement">> {
  const answers = await Promise.all(
    nodes.map(async (node) => ({ name: node.href, keyring: await requireAnswer(node) })),
  );
  for (const { name, keyring } of answers) {
    const reason = objection(keyring);
    if (reason !== undefined) throw new KmsError("TOKEN_REFUSED", `${name}: ${reason} nothing was destroyed`);
  }
  const clocks = answers.map(({ name, keyring: { clockAheadMs, clockErrorMs } }) => ({
    name,
    aheadMs: clockAheadMs,
    errorMs: clockErrorMs,
  }));
  const [off] = clockDifferences(clocks);
  if (off !== undefined) throw new KmsError("TOKEN_REFUSED", `${off}; nothing was destroyed`);
  return {
    aheadMs: Math.max(...clocks.map(({ aheadMs }) => aheadMs)),
    behindMs: slowestBehindMs(clocks),
    uncertainUse: latestUncertainUse(answers, kek),
  };
}

/** @throws KmsError PEER_UNREACHABLE that says what to do */
async function requireAnswer(node: URL): Promise<NodeKeyring> {
  try {
    return await readNode(node);
  } catch (error) {
    const { code, message } = KmsError.from(error);
    const text = `${message}; nothing was destroyed. Every node has to answer: start its plugin, or correct --nodes`;
    throw new KmsError(code, text, error);
  }
}

function latestUncertainUse(
  answers: readonly { readonly name: string; readonly keyring: NodeKeyring }[],
  kek: AskedKek,
): UncertainUse | undefined {
  const uncertain = answers.flatMap(({ name, keyring }) => {
    const use = uncertainUseOf(keyring, kek);
    return use === undefined ? [] : [{ ...use, reason: `${name}: ${use.reason}` }];
  });
  const latest = ({ lastUse }: UncertainUse): number => lastUse ?? Infinity;
  return uncertain.sort((one, other) => latest(other) - latest(one))[0];
}

/** Returns why a node may come to use a standby KEK; undefined if it will not. */
function useOf(keyring: NodeKeyring, kek: AskedKek, activation: number): string | undefined {
  const use = presentUse(keyring, kek);
  if (use !== undefined) return `${use};`;
  const { keyIds } = kek;
  const superseded = keyring.keys.find(({ keyId, state }) => mayBe(kek, keyId) && state !== "standby");
  if (superseded !== undefined) return `${superseded.keyId} is not standby there;`;
  if (activation - Date.parse(keyring.now) < CANCEL_MARGIN_MS) {
    const seconds = CANCEL_MARGIN_MS / 1000;
    return `${keyIds[0] ?? ""} becomes active within ${seconds} s by that node's clock, ${keyring.now};`;
  }
  return undefined;
}

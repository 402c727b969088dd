// What the nodes list after a KEK was destroyed: a plugin whose library caches objects still decrypts under it. That is
// not a failure of the destruction, but the operator must know how long it lasts.
import { setTimeout } from "node:timers/promises";
import { KmsError } from "../errors.js";
import { RELOAD_MS } from "../provider/reload-schedule.js";
import { readNodeRefreshed } from "./node-client.js";

export interface NodeAfterDestroy {
  readonly url: string;
  /** Whether the node still lists the KEK; null if it does not answer. */
  readonly listed: boolean | null;
  /** Why the node does not answer; null if it does. */
  readonly error: string | null;
}

/** How long nodes may take to notice that the KEK is gone, in ms; a request that is under way then is completed. */
const LIMIT_MS = 10_000;
const POLL_MS = 1_000;

/**
 * Asks every node, after it has read its token again, until none lists the KEK or 10 s have passed. Never throws.
 * @param keyIds those of the destroyed KEK
 */
export function nodesAfterDestroy(
  nodes: readonly URL[],
  keyIds: readonly string[],
  limitMs = LIMIT_MS,
): Promise<NodeAfterDestroy[]> {
  const until = performance.now() + limitMs;
  return Promise.all(
    nodes.map(async (node) => {
      for (;;) {
        const answer = await ask(node, keyIds);
        if (answer.listed !== true || performance.now() >= until) return answer;
        await setTimeout(POLL_MS);
      }
    }),
  );
}

/** Returns a warning for each node that still lists the KEK or does not answer. */
export function warningsAfterDestroy(nodes: readonly NodeAfterDestroy[], keyId: string): string[] {
  return nodes.flatMap(({ url, listed, error }) => {
    if (error !== null) {
      return [
        `${error}; whether that node still lists ${keyId} is not known: check with 'kms-pkcs11 keys list --nodes'`,
      ];
    }
    if (listed !== true) return [];
    return [
      `${url} still lists ${keyId} and may decrypt under it until its plugin reloads the PKCS#11 library: within ` +
        `${RELOAD_MS / 60_000} minutes, or, with hsm.hosts: 1, at its next restart`,
    ];
  });
}

async function ask(node: URL, keyIds: readonly string[]): Promise<NodeAfterDestroy> {
  try {
    const { keys } = await readNodeRefreshed(node);
    return { url: node.href, listed: keys.some(({ keyId }) => keyIds.includes(keyId)), error: null };
  } catch (error) {
    return { url: node.href, listed: null, error: KmsError.from(error).message };
  }
}

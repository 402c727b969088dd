// Interprets one node's answer about a KEK: whether the node may encrypt under it, and when it last may have done so.
// The answer is only as good as the node's memory, so only what it cannot have forgotten counts.
import { creationTime } from "../provider/creation-time.js";
import { mayBe, type AskedKek } from "./asked-kek.js";
import type { NodeKeyring } from "./node-client.js";

/** Returns why a node may be encrypting under a KEK, now or from the next Status call on; undefined when it is not. */
export function presentUse(node: NodeKeyring, kek: AskedKek): string | undefined {
  const { publishedKeyId, dueKeyId } = node;
  if (publishedKeyId !== null && mayBe(kek, publishedKeyId)) return `${publishedKeyId} is active there`;
  if (dueKeyId !== null && mayBe(kek, dueKeyId)) {
    return `${dueKeyId} is due there and becomes active with the next Status call`;
  }
  return undefined;
}

/** Why a node cannot say that it never used a KEK. */
export interface UncertainUse {
  readonly reason: string;
  /**
   * When its Status may last have named the KEK, in ms since the epoch by this machine's clock; undefined if unknown.
   */
  readonly lastUse: number | undefined;
}

/** Returns what keeps a node from saying that it never used a KEK; undefined when nothing does. */
export function uncertainUseOf(node: NodeKeyring, kek: AskedKek): UncertainUse | undefined {
  const used = lastAnswer(node, kek);
  if (used !== undefined) {
    return {
      reason: `its Status or Encrypt answered under it at ${iso(used)}`,
      lastUse: byThisClock(node, used),
    };
  }
  if (node.remembersSince === null) {
    return { reason: "its release does not report what it remembers", lastUse: undefined };
  }
  const since = Date.parse(node.remembersSince);
  const reason = shortMemory(node, kek, since);
  return reason === undefined ? undefined : { reason, lastUse: byThisClock(node, since) };
}

/** Returns why a KEK may be older than a node's memory; undefined when it is younger. */
function shortMemory({ keys }: NodeKeyring, kek: AskedKek, since: number): string | undefined {
  const made = creationTime(kek.ckaId);
  if (made === undefined) {
    return `it remembers since ${iso(since)}, and the KEK's CKA_ID does not show when it was made`;
  }
  if (since > made) return `it remembers only since ${iso(since)}, and the KEK was made at ${iso(made)}`;
  const seen = keys.find(({ keyId }) => mayBe(kek, keyId));
  return seen?.cameLater === false ? "the KEK was on its token when its memory began" : undefined;
}

/** Returns the last time the node answered under the KEK, by the node's clock. */
function lastAnswer({ answered }: NodeKeyring, kek: AskedKek): number | undefined {
  const times = answered
    .filter(({ keyId }) => mayBe(kek, keyId))
    .flatMap(({ statusAt, encryptAt }) => [statusAt, encryptAt])
    .flatMap((time) => (time === null ? [] : Date.parse(time)));
  return times.length === 0 ? undefined : Math.max(...times);
}

/** Converts a node's time to this machine's clock; errs on the late side. */
function byThisClock({ clockAheadMs, clockErrorMs }: NodeKeyring, time: number): number {
  return time - clockAheadMs + clockErrorMs;
}

function iso(time: number): string {
  return new Date(time).toISOString();
}

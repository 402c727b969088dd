// Reads the facts that a rotation's position follows from: the KEKs on all tokens, what every node publishes, and whether
// tokens and nodes have a standby KEK.
import { schedulePolicy } from "../../compose/provider.js";
import type { Settings } from "../../config/settings.js";
import type { KekRecord } from "../../hsm/port.js";
import { requireAll, withTokens, type Token } from "../command-tokens.js";
import { decisionTime } from "../guarded-rotation.js";
import { viewKeyring, type KeyringView, type ViewedKey } from "../keyring-view.js";
import { readNodes } from "../node-comparison.js";
import type { Operator } from "../operator.js";
import { checkReadiness, isReady } from "../readiness.js";
import type { Facts, RotationKek, RotationNode } from "./position.js";

export interface FactSources {
  readonly settings: Settings;
  readonly nodes: readonly URL[];
  readonly operator: Operator;
  /** Whether a standby KEK is cancelled if a token or node lacks it. */
  readonly guarded: boolean;
}

/** Reads tokens with freshly loaded libraries, and the nodes. @throws KmsError if a token cannot be read, or no KEK is active */
export function readFacts(sources: FactSources): Promise<Facts> {
  const { settings, operator } = sources;
  return withTokens(settings, operator, (tokens) => factsOn(tokens, sources));
}

/** @throws KmsError if a token cannot be read, or no KEK is active */
async function factsOn(tokens: readonly Token[], sources: FactSources): Promise<Facts> {
  const { settings, nodes, guarded } = sources;
  requireAll(
    tokens,
    "the rotation's position depends on every token; repeat the command when it can be read",
  );
  const now = Date.now();
  const view = viewKeyring(tokens, schedulePolicy(settings), now);
  if (view.problem !== undefined) throw view.problem;
  const standby = standbyOf(view);
  const [published, readiness] = await Promise.all([
    readPublished(nodes),
    standby === undefined ? [] : checkReadiness(standby.record, tokens, nodes),
  ]);
  const instant = standby?.activation;
  return {
    now,
    keks: keksOf(view),
    nodes: published,
    lacking: readiness.filter((one) => !isReady(one)).map(({ name, detail }) => `${name}: ${detail}`),
    decideAt: guarded && instant !== undefined ? decisionTime(tokens, instant) : undefined,
  };
}

/** Asks every node what it publishes; never throws. */
export async function readPublished(urls: readonly URL[]): Promise<RotationNode[]> {
  return (await readNodes(urls)).map(({ url, publishedKeyId, problems, error }) => ({
    name: url,
    publishedKeyId,
    problems: error === null ? problems : [error],
  }));
}

/** Returns the standby KEK that becomes active first; undefined if there is none. */
export function standbyOf({ keys }: KeyringView): ViewedKey | undefined {
  return keys.findLast(({ state }) => state === "standby");
}

/** Returns the usable KEKs of a keyring, the latest activation first. */
function keksOf({ keys }: KeyringView): RotationKek[] {
  return keys.flatMap(({ record, state, activation = -Infinity }) =>
    state === "refused" ? [] : [{ keyIds: namesOf(record), label: record.label, activation, state }],
  );
}

function namesOf({ keyId, aliases }: KekRecord): [string, ...string[]] {
  return [keyId, ...aliases];
}

// Rotates the KEK: plans the next generation, compares tokens and nodes with the plan, records the intent, makes the
// KEK on the first token, and follows its rollout if that is requested.
import { schedulePolicy } from "../compose/provider.js";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { KekRecord } from "../hsm/port.js";
import { activationOf, type SchedulePolicy } from "../provider/generations.js";
import { planRotation, type RotationPlan } from "../provider/rotation.js";
import { isSameKek } from "../hsm/key-id.js";
import type { ApprovalCheck } from "./approval-check.js";
import { requireAll, type Token } from "./command-tokens.js";
import { guardRotation, requireTimeToAbort, type Rotation } from "./guarded-rotation.js";
import { viewKeyring, type KeyringView } from "./keyring-view.js";
import { compareNodes, readNodes, type NodeReport } from "./node-comparison.js";
import { audited, type Begin } from "./operator-audit.js";
import type { Operator } from "./operator.js";
import { checkReadiness } from "./readiness.js";
import { windowBefore } from "./require-unneeded.js";
import { makeOrAwaitGeneration } from "./vendor-made-kek.js";

export interface NextKekOrder {
  readonly settings: Settings;
  readonly tokens: readonly Token[];
  readonly nodes: readonly URL[];
  /** ms since the epoch. */
  readonly now: number;
  /** ms since the epoch. */
  readonly activation: number;
  /** Whether to plan only, and make nothing. */
  readonly dryRun: boolean;
  /** Whether the command waits until every other token and node has the KEK. */
  readonly wait?: boolean;
  /** Whether to destroy the KEK before its activation if a token or node lacks it, which implies a wait. */
  readonly abortUnlessConverged: boolean;
  /**
   * Whether the KEK must be the only standby KEK: none is made while tokens and nodes differ or another is standby, and
   * it is destroyed if another command makes one at the same time.
   */
  readonly exclusive?: true;
  /** Ends the command before the KEK is made, or the wait after it: a KEK that is made never stays unguarded. */
  readonly signal: AbortSignal;
  /** Requires the approval of the policy, if there is one. */
  readonly approve?: ApprovalCheck;
  readonly operator: Operator;
}

/**
 * Rotates the KEK and returns the result; failures of single tokens and nodes after the KEK was made are in it.
 * @throws KmsError when no KEK was made, or as `makeOrAwaitGeneration`
 */
export async function rotateKek(order: NextKekOrder): Promise<Rotation> {
  const { settings, tokens, nodes, wait, abortUnlessConverged, signal, operator } = order;
  const { plan, made } = await makeNextKek(order);
  if (made === undefined) return { plan, made, readiness: [] };
  if (wait === true || abortUnlessConverged) {
    return guardRotation({ settings, plan, made, tokens, nodes, abortUnlessConverged, signal, operator });
  }
  return { plan, made, readiness: await checkReadiness(made, tokens.slice(1), nodes) };
}

/**
 * Makes the next KEK on the first token, unless it is a dry run, and records it.
 * @throws KmsError when no KEK was made, or as `makeOrAwaitGeneration`
 */
export async function makeNextKek(order: NextKekOrder): Promise<Pick<Rotation, "plan" | "made">> {
  const { settings, operator, dryRun } = order;
  return audited(
    settings,
    operator,
    { operation: dryRun ? "keys rotate --dry-run" : "keys rotate" },
    (begin) => planAndMake(order, begin),
    (done) => ({
      ...(done.made !== undefined && { keyId: done.made.keyId }),
      details: { label: done.plan.label, from: done.plan.from.record.keyId },
    }),
  );
}

async function planAndMake(order: NextKekOrder, begin: Begin): Promise<Pick<Rotation, "plan" | "made">> {
  const { settings, tokens, now, activation, dryRun, signal, operator } = order;
  requireAll(tokens, "nothing was made; to rotate without that token, take it out of failover");
  const policy = schedulePolicy(settings);
  const view = viewKeyring(tokens, policy, now);
  const plan = planRotation(view.schedule, policy, now, activation);
  const reports = await compareWithNodes(order, view, plan);
  const [preferred] = tokens;
  if (dryRun || preferred === undefined) return { plan, made: undefined };
  if (signal.aborted) throw new KmsError("CANCELLED", "interrupted; nothing was made");
  const approved = await order.approve?.({ operation: "rotate", names: [], label: plan.label });
  await begin({ details: { label: plan.label, from: plan.from.record.keyId, ...approved } });
  const generation = {
    policy,
    label: plan.label,
    mechanism: settings.mechanism,
    isRival: rivalry(order, plan, policy),
    withdraws: order.exclusive === true,
    unusedUntil: windowBefore(plan.activation, Math.max(0, ...reports.map(clockAheadOf))),
  };
  const wait = { until: plan.activation, signal };
  const { hsm } = preferred;
  const token = settings.tokens[0];
  const { made, listed } = await makeOrAwaitGeneration({ hsm, token, generation, wait, operator });
  const known = [made, ...tokens.flatMap(({ records }) => records ?? [])];
  const others = listed.filter((record) => !known.some((one) => isSameKek(one, record)));
  for (const other of others) operator.notify(`warning: ${newOther(other, plan, policy)}`);
  return { plan, made };
}

/** Returns what tells whether another KEK that appears meanwhile must not exist beside the new one. */
function rivalry(
  { exclusive, now }: NextKekOrder,
  plan: RotationPlan,
  { objectName }: SchedulePolicy,
): (record: KekRecord) => boolean {
  if (exclusive === undefined) return ({ label }) => label === plan.label;
  return ({ label }) => (activationOf(label, objectName) ?? -Infinity) > now;
}

/**
 * Reads the nodes and warns of everything that differs.
 * @throws KmsError PEER_UNREACHABLE, TOKEN_REFUSED or INPUT_INVALID when tokens and nodes must agree and do not, or an
 * abort is requested and could not be guaranteed
 */
async function compareWithNodes(
  { tokens, nodes, now, wait, abortUnlessConverged, exclusive, operator }: NextKekOrder,
  view: KeyringView,
  plan: RotationPlan,
): Promise<readonly NodeReport[]> {
  const reports = await readNodesFor(nodes, view);
  const differences = [...view.differences, ...compareNodes(reports, view)];
  const away = reports.flatMap(({ error }) => error ?? []);
  const pending = pendingKeks(view, now);
  if (exclusive === true) requireConverged(away, [...pending, ...differences], "");
  if (wait === true) requireAnyNode(nodes, away);
  for (const warning of [...plan.warnings, ...pending, ...away, ...differences]) {
    operator.notify(`warning: ${warning}`);
  }
  if (abortUnlessConverged) {
    requireConverged(away, differences, " (--abort-unless-converged)");
    requireTimeToAbort(tokens, plan.activation);
  }
  return reports;
}

function clockAheadOf({ clockAheadMs }: NodeReport): number {
  return clockAheadMs ?? 0;
}

/** Reads the nodes; if they differ, again after they have read their tokens, since a node polls its token. */
async function readNodesFor(nodes: readonly URL[], view: KeyringView): Promise<NodeReport[]> {
  const reports = await readNodes(nodes);
  return compareNodes(reports, view).length === 0 ? reports : readNodes(nodes, true);
}

/** Returns a warning for each standby KEK: it becomes active before the new one, which does not replace it. */
function pendingKeks({ keys }: KeyringView, now: number): string[] {
  return keys.flatMap(({ record: { label, keyId }, state, activation }) =>
    state === "standby" && activation !== undefined && activation > now
      ? [
          `"${label}" (key_id ${keyId}) is standby already and becomes active at ${new Date(activation).toISOString()}, ` +
            `before the new KEK; if it should not, ${howToCancel(keyId)}`,
        ]
      : [],
  );
}

/** Returns the warning of a KEK for another activation that appeared on the token while this command ran. */
function newOther({ label, keyId }: KekRecord, plan: RotationPlan, { objectName }: SchedulePolicy): string {
  const activation = activationOf(label, objectName);
  const when =
    activation === undefined || !Number.isFinite(activation)
      ? ""
      : ` and becomes active at ${new Date(activation).toISOString()}, ` +
        `${activation < plan.activation ? "before" : "after"} the new KEK`;
  return (
    `"${label}" (key_id ${keyId}) appeared on the token while this command ran${when}; ` +
    `if it should not become active, ${howToCancel(keyId)}`
  );
}

function howToCancel(keyId: string): string {
  return `cancel it with 'kms-pkcs11 keys destroy ${keyId} --nodes ...'`;
}

/** A wait for nodes of which none answers is in vain: their plugins are down, or the addresses wrong. */
function requireAnyNode(nodes: readonly URL[], away: readonly string[]): void {
  if (nodes.length === 0 || away.length < nodes.length) return;
  const text = `no node answers (${away.join("; ")}); nothing was made; start the plugins, or correct --nodes`;
  throw new KmsError("PEER_UNREACHABLE", `${text}; without --wait, a KEK is made all the same`);
}

/** Requires that tokens and nodes agree before the rotation. @throws KmsError PEER_UNREACHABLE, TOKEN_REFUSED */
function requireConverged([away]: readonly string[], [difference]: readonly string[], why: string): void {
  if (away !== undefined) throw new KmsError("PEER_UNREACHABLE", `${away}; nothing was made${why}`);
  if (difference !== undefined) throw new KmsError("TOKEN_REFUSED", `${difference}; nothing was made${why}`);
}
